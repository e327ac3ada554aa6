// SIGTERM and SIGINT as a flag: a run saves and ends after its step.
#pragma once

namespace megatron {

// While there is one, a signal sets the flag (a second SIGINT ends the process at once). Each rank
// has its own; ranks that are threads share the flag.
class ShutdownSignal {
 public:
  ShutdownSignal();
  ~ShutdownSignal();
  ShutdownSignal(const ShutdownSignal&) = delete;
  ShutdownSignal& operator=(const ShutdownSignal&) = delete;

  // The signal's number, or 0.
  static int received();
};

}  // namespace megatron
