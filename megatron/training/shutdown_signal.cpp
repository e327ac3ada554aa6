#include "megatron/training/shutdown_signal.h"

#include <csignal>
#include <mutex>

namespace megatron {
namespace {

volatile std::sig_atomic_t received_signal = 0;
std::mutex holders_mutex;
int holders = 0;

extern "C" void note_shutdown_signal(int signal) {
  if (received_signal == SIGINT && signal == SIGINT) {
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
