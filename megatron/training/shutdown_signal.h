// Turns SIGTERM and SIGINT into a flag, so that a run saves and ends after the current step.
#pragma once

namespace megatron {

// While an object of this class lives, these signals set the flag; a second SIGINT, half a second
// later or more, ends the process at once. Each rank has its own object; ranks that are threads of
// one process share the flag.
class ShutdownSignal {
 public:
  ShutdownSignal();
  ~ShutdownSignal();
  ShutdownSignal(const ShutdownSignal&) = delete;
  ShutdownSignal& operator=(const ShutdownSignal&) = delete;

  // The number of the last signal, or 0.
  static int received();
};

}  // namespace megatron
