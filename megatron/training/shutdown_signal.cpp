#include "megatron/training/shutdown_signal.h"

#include <csignal>
#include <ctime>
#include <mutex>

namespace megatron {
namespace {

// Ctrl-C reaches a rank twice: from the terminal, and forwarded by the process that started the
// ranks. Signals closer than this count as one.
constexpr long kOneSignalMilliseconds = 500;

volatile std::sig_atomic_t received_signal = 0;
volatile long first_milliseconds = 0;  // monotonic time of the first signal
std::mutex holders_mutex;
int holders = 0;

long monotonic_milliseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);  // async-signal-safe
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

extern "C" void note_shutdown_signal(int signal) {
  const long now = monotonic_milliseconds();
  if (received_signal == 0) first_milliseconds = now;
  const bool again = received_signal == SIGINT && signal == SIGINT;
  if (again && now - first_milliseconds > kOneSignalMilliseconds) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  received_signal = signal;
}

}  // namespace

ShutdownSignal::ShutdownSignal() {
  const std::lock_guard lock(holders_mutex);
  if (holders++ > 0) return;
  std::signal(SIGTERM, note_shutdown_signal);
  std::signal(SIGINT, note_shutdown_signal);
}

ShutdownSignal::~ShutdownSignal() {
  const std::lock_guard lock(holders_mutex);
  if (--holders > 0) return;
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
}

int ShutdownSignal::received() {
  return received_signal;
}

}  // namespace megatron
