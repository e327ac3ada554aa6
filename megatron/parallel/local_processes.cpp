// Starts the processes, waits for them and reports their failures.
#include "megatron/parallel/local_processes.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <signal.h>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/parallel/rank_process.h"
#include "megatron/parallel/rendezvous.h"

namespace megatron {
namespace {

// Grace period for the other ranks to notice a failure: 2 s, counted in waits of this process, so
// that it does not elapse while the entire job is stopped.
constexpr std::chrono::milliseconds kProcessPoll{50};
constexpr int kProcessGracePolls = 40;

// Blocks the signals that the supervisor takes one by one with sigtimedwait.
class WatchedSignals {
 public:
  WatchedSignals() {
    sigemptyset(&set_);
    for (const int number : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&set_, number);
    pthread_sigmask(SIG_BLOCK, &set_, &before_);
    // A parent that ignored SIGCHLD would make us lose the children's exit statuses.
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    sigaction(SIGCHLD, &action, &child_before_);
  }
  ~WatchedSignals() {
    sigaction(SIGCHLD, &child_before_, nullptr);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  WatchedSignals(const WatchedSignals&) = delete;
  WatchedSignals& operator=(const WatchedSignals&) = delete;

  const sigset_t& before() const { return before_; }
  // The next signal, or 0 where none comes within `time`.
  int next(std::chrono::milliseconds time, siginfo_t* info) const {
    const timespec limit{time.count() / 1000, time.count() % 1000 * 1'000'000};
    const int number = sigtimedwait(&set_, info, &limit);
    return number < 0 ? 0 : number;
  }

 private:
  sigset_t set_{}, before_{};
  struct sigaction child_before_ {};
};

// The arguments of execve, prepared before fork: after it only system calls are safe.
class ProgramImage {
 public:
  explicit ProgramImage(const std::map<std::string, std::string>& variables) {
    std::ifstream file("/proc/self/cmdline", std::ios::binary);
    const std::string line((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
    for (size_t at = 0; at < line.size(); at = line.find('\0', at) + 1) {
      arguments_.emplace_back(line.c_str() + at);
    }
    check(!arguments_.empty(), "Expected to read this program's arguments from /proc/self/cmdline");
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string text = *entry;
      if (!variables.contains(text.substr(0, text.find('=')))) environment_.push_back(text);
    }
    for (const auto& [name, value] : variables) environment_.push_back(name + "=" + value);
    for (auto& argument : arguments_) argument_pointers_.push_back(argument.data());
    for (auto& entry : environment_) environment_pointers_.push_back(entry.data());
    argument_pointers_.push_back(nullptr);
    environment_pointers_.push_back(nullptr);
  }
  char* const* arguments() const { return argument_pointers_.data(); }
  char* const* environment() const { return environment_pointers_.data(); }

 private:
  std::vector<std::string> arguments_, environment_;
  std::vector<char*> argument_pointers_, environment_pointers_;
};

struct RankProcess {
  int rank = 0;
  pid_t pid = 0;
  bool running = true;
  bool killed_by_us = false;
  int wait_status = 0;
  std::optional<RankFailure> failure;

  bool failed() const { return !running && wait_status != 0; }
  int exit_status() const {
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
  }
};

pid_t start_process(const ProgramImage& image, int rank, const sigset_t& signal_mask) {
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  // Only the first rank reads standard input.
  if (rank > 0) {
    const int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0) {
      dup2(nothing, STDIN_FILENO);
      close(nothing);
    }
  }
  pthread_sigmask(SIG_SETMASK, &signal_mask, nullptr);
  execve("/proc/self/exe", image.arguments(), image.environment());
  constexpr char kText[] = "error: the system refused to run this program again as a rank\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kText, sizeof(kText) - 1);
  _exit(127);
}

std::map<std::string, std::string> rank_variables(const LaunchConfig& config, int rank, int port) {
  const std::string size = std::to_string(*config.nproc);
  std::map<std::string, std::string> variables{
      {"RANK", std::to_string(rank)},
      {"WORLD_SIZE", size},
      {"LOCAL_RANK", std::to_string(rank)},
      {"LOCAL_WORLD_SIZE", size},
      {"MASTER_ADDR", config.master_addr},
      {"MASTER_PORT", std::to_string(port)},
      {"TORCHELASTIC_USE_AGENT_STORE", "True"},
      {"TORCHELASTIC_RESTART_COUNT", ""},
      {kLauncherVariable, std::to_string(getpid())},
  };
  // libtorch's warnings about lost connections would bury our error.
  if (!process_environment()("TORCH_CPP_LOG_LEVEL")) variables["TORCH_CPP_LOG_LEVEL"] = "FATAL";
  return variables;
}

void signal_running(std::vector<RankProcess>& ranks, int number, bool ours) {
  for (auto& rank : ranks) {
    if (!rank.running) continue;
    kill(rank.pid, number);
    rank.killed_by_us = rank.killed_by_us || ours;
  }
}

void reap(std::vector<RankProcess>& ranks, c10d::Store& store) {
  for (auto& rank : ranks) {
    if (!rank.running) continue;
    const pid_t pid = waitpid(rank.pid, &rank.wait_status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno == EINTR)) continue;
    if (pid < 0) rank.wait_status = 1 << 8;  // its status is lost: counts as a failure
    rank.running = false;
    if (rank.wait_status != 0) rank.failure = reported_failure(store, rank.rank);
  }
}

void watch(std::vector<RankProcess>& ranks, const WatchedSignals& signals, c10d::Store& store) {
  std::optional<int> polls_left;  // of the grace period, once a rank has failed
  while (std::any_of(ranks.begin(), ranks.end(), [](const auto& rank) { return rank.running; })) {
    siginfo_t info{};
    const int number = signals.next(polls_left ? kProcessPoll : std::chrono::seconds(1), &info);
    // A terminal signals the ranks itself; its signals have the kernel as their sender.
    if (number != 0 && number != SIGCHLD && info.si_code != SI_KERNEL) {
      signal_running(ranks, number, /*ours=*/false);
    }
    reap(ranks, store);
    const bool failed =
        std::any_of(ranks.begin(), ranks.end(), [](const auto& rank) { return rank.failed(); });
    if (polls_left && number == 0) --*polls_left;
    if (failed && !polls_left) polls_left = kProcessGracePolls;
    if (polls_left && *polls_left <= 0) signal_running(ranks, SIGKILL, /*ours=*/true);
  }
}

std::string describe_end(const RankProcess& rank) {
  if (WIFSIGNALED(rank.wait_status)) {
    const int number = WTERMSIG(rank.wait_status);
    return fmt::format("rank {} (process {}) was ended by signal {} ({}){}", rank.rank, rank.pid,
                       number, strsignal(number),
                       number == SIGKILL ? "; perhaps the machine ran out of memory" : "");
  }
  return fmt::format("rank {} (process {}) exited with status {}", rank.rank, rank.pid,
                     WEXITSTATUS(rank.wait_status));
}

// "rank 1: ", "ranks [1, 2]: ", or "" for all ranks of the world.
std::string prefix_of(const std::vector<const RankProcess*>& failed, size_t world_size) {
  std::vector<int> numbers;
  for (const RankProcess* rank : failed) numbers.push_back(rank->rank);
  if (numbers.size() == world_size) return "";
  if (numbers.size() == 1) return fmt::format("rank {}: ", numbers[0]);
  return fmt::format("ranks [{}]: ", fmt::join(numbers, ", "));
}

// Prints the failures of the ranks, the likeliest cause last, and returns its exit status. The
// order does not depend on timing: by the kind of failure, and within a kind the lowest rank last.
int report(const std::vector<RankProcess>& ranks) {
  struct Line {
    std::string text;
    int status;
  };
  std::vector<int> killed;
  std::vector<Line> peer_ended, communication, exits, signals, own;
  std::map<std::string, std::vector<const RankProcess*>> own_by_text;
  for (const auto& rank : ranks) {
    if (!rank.failed()) continue;
    const bool by_signal = WIFSIGNALED(rank.wait_status);
    if (rank.failure && rank.failure->kind == FailureKind::own) {
      own_by_text[rank.failure->text].push_back(&rank);
    } else if (rank.failure) {
      const bool lost_peer = rank.failure->kind == FailureKind::peer_ended;
      (lost_peer ? peer_ended : communication).push_back({rank.failure->text, rank.exit_status()});
    } else if (rank.killed_by_us && by_signal) {
      killed.push_back(rank.rank);
    } else {
      (by_signal ? signals : exits).push_back({describe_end(rank), rank.exit_status()});
    }
  }
  // Ranks that fail for the same reason share a line, at the place of the lowest.
  for (const auto& rank : ranks) {
    if (!rank.failed() || !rank.failure || rank.failure->kind != FailureKind::own) continue;
    const auto& [text, failed] = *own_by_text.find(rank.failure->text);
    if (failed.front() != &rank) continue;
    own.push_back({prefix_of(failed, ranks.size()) + text, rank.exit_status()});
  }
  std::vector<Line> lines;
  if (!killed.empty()) {
    lines.push_back({fmt::format("rank{} [{}] did not end by {} in time and {} ended",
                                 killed.size() == 1 ? "" : "s", fmt::join(killed, ", "),
                                 killed.size() == 1 ? "itself" : "themselves",
                                 killed.size() == 1 ? "was" : "were"),
                     1});
  }
  for (const auto& kind : {peer_ended, communication, exits, signals, own})
    lines.insert(lines.end(), kind.rbegin(), kind.rend());
  if (lines.empty()) return 0;
  for (const Line& line : lines) fmt::print(stderr, "error: {}\n", line.text);
  return lines.back().status;
}

}  // namespace

int run_local_processes(const LaunchConfig& config, std::chrono::milliseconds timeout) {
  const WatchedSignals signals;  // before the store starts threads, which inherit the mask
  const LocalStore host = host_local_store(
      config.master_addr, config.master_port ? static_cast<int>(*config.master_port) : 0, timeout);
  std::vector<RankProcess> ranks;
  for (int rank = 0; rank < *config.nproc; ++rank) {
    const ProgramImage image(rank_variables(config, rank, host.port));
    const pid_t pid = start_process(image, rank, signals.before());
    if (pid < 0) {
      const int reason = errno;
      signal_running(ranks, SIGKILL, /*ours=*/true);
      watch(ranks, signals, *host.store);
      fail(
          "Expected to start {} rank processes, but the system refused at {}: {}; fewer ranks work",
          *config.nproc, rank, std::strerror(reason));
    }
    ranks.emplace_back().rank = rank;
    ranks.back().pid = pid;
  }
  watch(ranks, signals, *host.store);
  return report(ranks);
}

}  // namespace megatron
