// launch() with ranks as processes and as threads: success, and every way for a rank to fail.
#include "megatron/parallel/launch.h"

#include <arpa/inet.h>
#include <chrono>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <thread>

#include <gtest/gtest.h>

#include "megatron/base/error.h"

#include "tests/parallel/reserved_port.h"
#include "tests/program.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::StartsWith;

std::vector<std::string> probe(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), RANK_PROBE);
  return arguments;
}

// On a busy machine one of the others may be late too.
constexpr const char* kRankOneHangs = "ranks? \\[(0, )?1(, 2)?\\] did not end by";

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

// Listens on a port for as long as it lives.
class TakenPort {
 public:
  explicit TakenPort(const ReservedPort& port)
      : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port.number()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(socket_, 1), 0);
  }
  ~TakenPort() { close(socket_); }
  TakenPort(const TakenPort&) = delete;
  TakenPort& operator=(const TakenPort&) = delete;

 private:
  int socket_;
};

TEST(LaunchProcesses, CollectivesOverGloo) {
  for (const std::string ranks : {"2", "4"}) {
    ChildProgram program(probe({"collectives", "--nproc", ranks, "--threads", "1"}));
    EXPECT_EQ(program.wait(), 0) << program.err();
    EXPECT_EQ(count(program.out(), "of " + ranks + " over gloo ok"), std::stoi(ranks));
    EXPECT_EQ(program.err(), "");
  }
}

TEST(LaunchThreads, CollectivesInProcess) {
  ChildProgram program(probe({"collectives", "--nproc", "4", "--threads-as-ranks"}));
  EXPECT_EQ(program.wait(), 0) << program.err();
  EXPECT_EQ(count(program.out(), "of 4 over threads ok"), 4);
}

TEST(LaunchProcesses, KilledRankEndsTheOthers) {
  ChildProgram program(probe({"kill", "--nproc", "3", "--threads", "1"}));
  EXPECT_EQ(program.wait(), 128 + SIGKILL);
  // On a busy machine the others may need longer to notice than they have.
  EXPECT_THAT(program.err(), AnyOf(HasSubstr("all_reduce over group tp (ranks [0, 1, 2]) on rank "),
                                   HasSubstr("did not end by themselves in time")));
  EXPECT_THAT(program.last_error_line(),
              AllOf(StartsWith("error: rank 1 (process "), HasSubstr("signal 9 (Killed)")));
}

TEST(LaunchProcesses, HangingRankIsEndedAfterTheTimeLimit) {
  ChildProgram program(probe({"hang", "--nproc", "3", "--threads", "1"}));
  EXPECT_EQ(program.wait(), 1);
  EXPECT_THAT(program.err(),
              AllOf(ContainsRegex(kRankOneHangs), HasSubstr("Timed out waiting 1500ms")));
  EXPECT_THAT(program.last_error_line(),
              AllOf(StartsWith("error: all_reduce over group tp (ranks [0, 1, 2]) on rank "),
                    HasSubstr("--distributed-timeout-minutes")));
}

TEST(Launch, TimeLimitReachesTheRanks) {
  for (const bool threads : {false, true}) {
    auto arguments = probe({"context", "--nproc", "2", "--distributed-timeout-minutes", "0.5"});
    if (threads) arguments.push_back("--threads-as-ranks");
    ChildProgram program(arguments);
    EXPECT_EQ(program.wait(), 0) << program.err();
    EXPECT_EQ(count(program.out(), "timeout 30000 "), 2) << program.out();
  }
}

TEST(LaunchProcesses, ExceptionIsPrintedOnceWithItsRank) {
  ChildProgram program(probe({"throw", "--nproc", "2", "--threads", "1"}));
  EXPECT_EQ(program.wait(), 1);
  EXPECT_EQ(program.last_error_line(), "error: rank 1: Expected a better rank, but got this one");
  EXPECT_EQ(count(program.err(), "a better rank"), 1) << program.err();
}

TEST(LaunchProcesses, FailureOfAllRanksIsPrintedOnce) {
  ChildProgram program(probe({"throw-all", "--nproc", "3", "--threads", "1"}));
  EXPECT_EQ(program.wait(), 1);
  EXPECT_EQ(program.last_error_line(), "error: Expected every rank to fail, and it did");
  EXPECT_EQ(count(program.err(), "every rank"), 1) << program.err();
}

// Rank 1 fails first and ranks 0 and 2 because of it, rank 0 with an error of its own.
TEST(Launch, TheCauseIsTheLowestRankWithAnErrorOfItsOwn) {
  ChildProgram threads(probe({"throw-in-turn", "--nproc", "3", "--threads-as-ranks"}));
  EXPECT_EQ(threads.wait(), 1);
  EXPECT_EQ(threads.err(), "error: rank 0: Expected a better rank, but got this one\n");
  ChildProgram processes(probe({"throw-in-turn", "--nproc", "3", "--threads", "1"}));
  EXPECT_EQ(processes.wait(), 1);
  EXPECT_THAT(processes.err(), HasSubstr("error: rank 1: Expected to be the first, but was not"));
  EXPECT_EQ(processes.last_error_line(), "error: rank 0: Expected a better rank, but got this one");
}

TEST(LaunchThreads, ExceptionIsPrintedOnceWithItsRank) {
  ChildProgram program(probe({"throw", "--nproc", "3", "--threads-as-ranks"}));
  EXPECT_EQ(program.wait(), 1);
  EXPECT_EQ(program.err(), "error: rank 1: Expected a better rank, but got this one\n");
}

TEST(LaunchThreads, RankThatLeavesEndsTheOthers) {
  ChildProgram program(probe({"leave", "--nproc", "2", "--threads-as-ranks"}));
  EXPECT_EQ(program.wait(), 1);
  EXPECT_THAT(program.err(), AllOf(HasSubstr("all_reduce over group tp (ranks [0, 1]) on rank 0"),
                                   HasSubstr("rank 1 has ended")));
}

TEST(LaunchThreads, HangingRankIsEndedAfterTheTimeLimit) {
  ChildProgram program(probe({"hang", "--nproc", "3", "--threads-as-ranks"}));
  EXPECT_EQ(program.wait(), 1);
  EXPECT_THAT(program.err(), ContainsRegex(kRankOneHangs));
  EXPECT_THAT(program.last_error_line(),
              AllOf(StartsWith("error: all_reduce over group tp (ranks [0, 1, 2]) on rank "),
                    HasSubstr("rank [1] did not come")));
}

TEST(LaunchProcesses, RankThatLeavesEndsTheOthers) {
  ChildProgram program(probe({"leave", "--nproc", "2", "--threads", "1"}));
  EXPECT_EQ(program.wait(), 1);
  EXPECT_THAT(program.err(), HasSubstr("all_reduce over group tp (ranks [0, 1]) on rank 0"));
}

TEST(Launch, StatusOfARankIsTheStatus) {
  ChildProgram processes(probe({"status", "--nproc", "2", "--threads", "1"}));
  EXPECT_EQ(processes.wait(), 5);
  EXPECT_THAT(processes.last_error_line(), HasSubstr("exited with status 5"));
  ChildProgram threads(probe({"status", "--nproc", "2", "--threads-as-ranks"}));
  EXPECT_EQ(threads.wait(), 5);
}

TEST(LaunchProcesses, DifferentOptionsAreNamed) {
  ChildProgram program(probe({"options", "--nproc", "2", "--threads", "1"}));
  EXPECT_EQ(program.wait(), 1);
  EXPECT_THAT(program.last_error_line(),
              HasSubstr("the same options on all 2 ranks, but rank [1] differs from rank 0"));
}

TEST(LaunchProcesses, PortInUse) {
  const ReservedPort port;
  const TakenPort taken(port);
  ChildProgram program(probe({"context", "--nproc", "2", "--master-port", port.text()}));
  EXPECT_EQ(program.wait(), 1);
  EXPECT_EQ(count(program.err(), "\n"), 1) << program.err();
  EXPECT_THAT(program.err(), AllOf(HasSubstr("port " + port.text()), HasSubstr("--master-port")));
}

TEST(LaunchProcesses, TorchrunVariablesByHand) {
  const ReservedPort port;
  const std::map<std::string, std::string> common{
      {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", port.text()}};
  const auto start = [&](const std::string& rank) {
    auto variables = common;
    variables["RANK"] = rank;
    variables["LOCAL_RANK"] = rank;
    return std::make_unique<ChildProgram>(probe({"collectives", "--threads", "1"}), variables);
  };
  {
    const TakenPort taken(port);
    const auto refused = start("0");
    EXPECT_EQ(refused->wait(), 1);
    EXPECT_THAT(refused->last_error_line(),
                AllOf(HasSubstr("port " + port.text()), HasSubstr("MASTER_PORT")));
  }
  const auto second = start("1"), first = start("0");  // a rank may start before the store exists
  EXPECT_EQ(first->wait(), 0) << first->err();
  EXPECT_EQ(second->wait(), 0) << second->err();
  EXPECT_THAT(first->out() + second->out(),
              AllOf(HasSubstr("rank 0 of 2 over gloo ok"), HasSubstr("rank 1 of 2 over gloo ok")));
}

TEST(LaunchProcesses, WorldSizeMustMatchTheLauncher) {
  ChildProgram program(probe({"context", "--nproc", "3"}), {{"RANK", "0"}, {"WORLD_SIZE", "2"}});
  EXPECT_EQ(program.wait(), 1);
  EXPECT_THAT(program.last_error_line(),
              HasSubstr("world size of the launcher, 2 (torchrun), but got 3"));
}

TEST(LaunchProcesses, MissingPeerIsAnErrorWithinTheTimeLimit) {
  const ReservedPort reserved;
  const std::string port = reserved.text();
  ChildProgram program(
      probe({"collectives", "--threads", "1", "--distributed-timeout-minutes", "0.02"}),
      {{"WORLD_SIZE", "2"}, {"MASTER_PORT", port}, {"RANK", "0"}, {"LOCAL_RANK", "0"}});
  EXPECT_EQ(program.wait(), 1);
  EXPECT_THAT(program.last_error_line(),
              AllOf(HasSubstr("rank 0: Expected 2 ranks to meet at 127.0.0.1:" + port),
                    HasSubstr("but 1 came"), HasSubstr("MASTER_PORT")));
  ChildProgram client(
      probe({"collectives", "--threads", "1", "--distributed-timeout-minutes", "0.02"}),
      {{"WORLD_SIZE", "2"}, {"MASTER_PORT", port}, {"RANK", "1"}, {"LOCAL_RANK", "1"}});
  EXPECT_EQ(client.wait(), 1);
  EXPECT_THAT(
      client.last_error_line(),
      AllOf(HasSubstr("rank 1: Expected to reach the store of rank 0"), HasSubstr("MASTER_ADDR")));
}

TEST(LaunchProcesses, WaitForAPeerIsPrintedAndEndsBySigterm) {
  const ReservedPort reserved;
  const std::string port = reserved.text();
  ChildProgram program({MEGATRON_PROGRAM, "train", "--mock-data", "--vocab-size", "50",
                        "--num-layers", "1", "--hidden-size", "8", "--num-attention-heads", "1",
                        "--seq-length", "8", "--train-iters", "1"},
                       {{"WORLD_SIZE", "2"}, {"MASTER_PORT", port}, {"RANK", "0"}});
  while (program.err().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_THAT(program.err(),
              HasSubstr("rank 0 waits for 1 more of 2 ranks (torchrun's variables)"));
  kill(program.pid(), SIGTERM);
  EXPECT_EQ(program.wait(), 128 + SIGTERM);
}

TEST(Launch, WorldOfOne) {
  ChildProgram alone(probe({"context"}), {{"OMP_NUM_THREADS", "3"}});
  EXPECT_EQ(alone.wait(), 0);
  EXPECT_EQ(alone.out(), "rank 0 of 1 local 0 threads 3 timeout 600000 transport none\n");
  ChildProgram one(probe({"context", "--nproc", "1", "--threads", "2"}));
  EXPECT_EQ(one.wait(), 0);
  EXPECT_EQ(one.out(), "rank 0 of 1 local 0 threads 2 timeout 600000 transport none\n");
  // A batch script within a SLURM allocation of four tasks is one rank.
  ChildProgram batch(probe({"context", "--threads", "1"}),
                     {{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}});
  EXPECT_EQ(batch.wait(), 0);
  EXPECT_EQ(batch.out(), "rank 0 of 1 local 0 threads 1 timeout 600000 transport none\n");
}

TEST(LaunchProcesses, SigtermGoesToTheRanks) {
  ChildProgram program(probe({"stop", "--nproc", "2", "--threads", "1"}));
  while (count(program.out(), "ready") < 2)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  kill(program.pid(), SIGTERM);
  EXPECT_EQ(program.wait(), 0) << program.err();
  EXPECT_EQ(count(program.out(), "stopped"), 2);
}

TEST(LaunchProcesses, RanksEndWithTheirParent) {
  ChildProgram program(probe({"orphan", "--nproc", "2", "--threads", "1"}));
  while (count(program.out(), "\n") < 2) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  std::istringstream lines(program.out());
  std::vector<pid_t> ranks(2);
  lines >> ranks[0] >> ranks[1];
  kill(program.pid(), SIGKILL);
  program.wait();
  for (const pid_t rank : ranks) {
    // Gone, or a zombie that its new parent has not reaped.
    const auto ended = [&] {
      std::ifstream file("/proc/" + std::to_string(rank) + "/stat");
      std::string number, name, state;
      return !(file >> number >> name >> state) || state == "Z" || state == "X";
    };
    for (int i = 0; i < 10'000 && !ended(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_TRUE(ended());
  }
}

TEST(Launch, BadConfigurations) {
  const auto refused = [](const std::vector<std::string>& flags) {
    auto arguments = probe({"context"});
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    ChildProgram program(arguments);
    EXPECT_EQ(program.wait(), 1);
    EXPECT_EQ(count(program.err(), "\n"), 1) << program.err();
    return program.err();
  };
  EXPECT_THAT(refused({"--nproc", "0"}), HasSubstr("--nproc of 1 to"));
  EXPECT_THAT(refused({"--threads-as-ranks"}),
              HasSubstr("Expected --nproc N with --threads-as-ranks"));
  EXPECT_THAT(refused({"--nproc", "2", "--threads", "0"}), HasSubstr("--threads of 1 to"));
  EXPECT_THAT(refused({"--nproc", "2", "--master-port", "70000"}), HasSubstr("1 to 65535"));
  EXPECT_THAT(refused({"--distributed-timeout-minutes", "0"}),
              HasSubstr("--distributed-timeout-minutes of"));
}

}  // namespace
}  // namespace megatron
