// SIGTERM and SIGINT as a flag: a run saves and ends after its step.
#pragma once

namespace megatron {

// From construction on the first signal sets the flag (a second SIGINT ends the process at once).
// One for the whole process: ranks that are threads share it.
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
