// The variables of launchers, by example.
#include "megatron/parallel/rank_environment.h"

#include <gmock/gmock.h>
#include <map>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/parallel/compute_threads.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

using Variables = std::map<std::string, std::string>;

Environment environment_of(const Variables& variables) {
  return [variables](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end() || found->second.empty()) return std::nullopt;
    return found->second;
  };
}

std::optional<RankIdentity> identity(const Variables& variables, const LaunchConfig& config = {}) {
  return identity_from_environment(config, environment_of(variables));
}

TEST(RankEnvironment, NoLauncherIsAWorldOfOne) {
  EXPECT_FALSE(identity({}));
  EXPECT_FALSE(identity({{"MASTER_ADDR", "node1"}, {"LOCAL_RANK", "1"}}));
}

TEST(RankEnvironment, Torchrun) {
  Variables variables{{"RANK", "5"},
                      {"WORLD_SIZE", "8"},
                      {"LOCAL_RANK", "1"},
                      {"LOCAL_WORLD_SIZE", "4"},
                      {"MASTER_ADDR", "node1"},
                      {"MASTER_PORT", "1234"},
                      {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                      {"TORCHELASTIC_RESTART_COUNT", "2"}};
  auto found = identity(variables).value();
  EXPECT_EQ(found.rank, 5);
  EXPECT_EQ(found.world_size, 8);
  EXPECT_EQ(found.local_rank, 1);
  EXPECT_EQ(found.local_world_size, 4);
  EXPECT_EQ(found.master_addr, "node1");
  EXPECT_EQ(found.master_port, 1234);
  EXPECT_EQ(found.attempt, "2");
  EXPECT_FALSE(found.all_local());
  variables["RANK"] = "0";
  EXPECT_FALSE(identity(variables)->hosts_store);
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "False";
  EXPECT_TRUE(identity(variables)->hosts_store);
}

TEST(RankEnvironment, TorchrunVariablesByHand) {
  const auto found =
      identity({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "1234"}}).value();
  EXPECT_EQ(found.local_rank, 1);
  EXPECT_TRUE(found.all_local());
  EXPECT_FALSE(found.hosts_store);
  EXPECT_EQ(found.master_addr, "127.0.0.1");
}

TEST(RankEnvironment, TorchrunErrors) {
  EXPECT_THAT([] { identity({{"RANK", "0"}}); }, ThrowsMessage<Error>(HasSubstr("WORLD_SIZE")));
  EXPECT_THAT([] { identity({{"WORLD_SIZE", "2"}}); }, ThrowsMessage<Error>(HasSubstr("RANK")));
  EXPECT_THAT(
      [] {
        identity({{"RANK", "2"}, {"WORLD_SIZE", "2"}});
      },
      ThrowsMessage<Error>(HasSubstr("rank of 0 to 1 from torchrun, but got 2")));
  EXPECT_THAT(
      [] {
        identity({{"RANK", "x"}, {"WORLD_SIZE", "2"}});
      },
      ThrowsMessage<Error>(HasSubstr("RANK to be a whole number of at least 0, but got 'x'")));
  EXPECT_THAT(
      [] {
        identity({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "node1"}});
      },
      ThrowsMessage<Error>(HasSubstr("LOCAL_RANK")));
  EXPECT_THAT(
      [] {
        identity({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "70000"}});
      },
      ThrowsMessage<Error>(HasSubstr("65535")));
}

TEST(RankEnvironment, OpenMpi) {
  Variables variables{{"OMPI_COMM_WORLD_RANK", "3"},
                      {"OMPI_COMM_WORLD_SIZE", "4"},
                      {"OMPI_COMM_WORLD_LOCAL_RANK", "3"},
                      {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}};
  auto found = identity(variables).value();
  EXPECT_EQ(found.launcher, "Open MPI");
  EXPECT_EQ(found.rank, 3);
  EXPECT_EQ(found.local_rank, 3);
  EXPECT_TRUE(found.all_local());
  // mpirun within a SLURM step: Open MPI's variables count.
  variables.insert({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_LOCALID", "0"}});
  EXPECT_EQ(identity(variables)->launcher, "Open MPI");
  variables["OMPI_COMM_WORLD_LOCAL_RANK"] = "1";
  variables["OMPI_COMM_WORLD_LOCAL_SIZE"] = "2";
  EXPECT_THAT([&] { identity(variables); }, ThrowsMessage<Error>(HasSubstr("MASTER_ADDR")));
  variables["MASTER_ADDR"] = "node7";
  EXPECT_EQ(identity(variables)->master_addr, "node7");
}

TEST(RankEnvironment, SlurmStep) {
  const Variables variables{{"SLURM_JOB_ID", "123456"},
                            {"SLURM_STEP_ID", "0"},
                            {"SLURM_STEP_NUM_TASKS", "8"},
                            {"SLURM_PROCID", "6"},
                            {"SLURM_LOCALID", "2"},
                            {"SLURM_NODEID", "1"},
                            {"SLURM_STEP_NUM_NODES", "2"},
                            {"SLURM_STEP_TASKS_PER_NODE", "4(x2)"},
                            {"SLURM_STEP_NODELIST", "gpu[07-08]"}};
  const auto found = identity(variables).value();
  EXPECT_EQ(found.launcher, "SLURM");
  EXPECT_EQ(found.rank, 6);
  EXPECT_EQ(found.world_size, 8);
  EXPECT_EQ(found.local_rank, 2);
  EXPECT_EQ(found.local_world_size, 4);
  EXPECT_EQ(found.master_addr, "gpu07");
  EXPECT_EQ(found.master_port, 20000 + 123456 % 20000);
  LaunchConfig config;
  config.master_addr = "10.0.0.1";
  config.master_port = 4000;
  EXPECT_EQ(identity(variables, config)->master_addr, "10.0.0.1");
  EXPECT_EQ(identity(variables, config)->master_port, 4000);
}

TEST(RankEnvironment, SlurmVariablesByHand) {
  const auto found =
      identity({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_LOCALID", "0"}}).value();
  EXPECT_TRUE(found.hosts_store);
  EXPECT_TRUE(found.all_local());
  EXPECT_EQ(found.master_addr, "127.0.0.1");
}

TEST(RankEnvironment, SlurmShellsAreNotRanks) {
  // A batch script: the job's number of tasks, but no step.
  EXPECT_FALSE(identity({{"SLURM_JOB_ID", "7"},
                         {"SLURM_NTASKS", "4"},
                         {"SLURM_PROCID", "0"},
                         {"SLURM_LOCALID", "0"}}));
  // salloc's shell where SLURM runs it as an interactive step.
  EXPECT_FALSE(identity({{"SLURM_JOB_ID", "7"},
                         {"SLURM_STEP_ID", "4294967290"},
                         {"SLURM_NTASKS", "4"},
                         {"SLURM_PROCID", "0"},
                         {"SLURM_LOCALID", "0"}}));
  // salloc's shell, without any task.
  EXPECT_FALSE(identity({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}}));
  // srun of one task.
  EXPECT_FALSE(identity({{"SLURM_JOB_ID", "7"},
                         {"SLURM_STEP_ID", "0"},
                         {"SLURM_STEP_NUM_TASKS", "1"},
                         {"SLURM_NTASKS", "4"},
                         {"SLURM_PROCID", "0"},
                         {"SLURM_LOCALID", "0"}}));
}

TEST(RankEnvironment, FirstSlurmHost) {
  EXPECT_EQ(first_slurm_host("node1"), "node1");
  EXPECT_EQ(first_slurm_host("node1,node2"), "node1");
  EXPECT_EQ(first_slurm_host("gpu[03-07,9],login1"), "gpu03");
  EXPECT_EQ(first_slurm_host("gpu[12]"), "gpu12");
  EXPECT_EQ(first_slurm_host("login1,gpu[03-07]"), "login1");
  EXPECT_EQ(first_slurm_host("rack[1-2]-ib,login1"), "rack1-ib");
}

TEST(ComputeThreads, FlagThenVariableThenCores) {
  LaunchConfig config;
  EXPECT_EQ(choose_compute_threads(config, 1, environment_of({{"OMP_NUM_THREADS", "3"}})), 3);
  EXPECT_EQ(choose_compute_threads(config, 1, environment_of({{"OMP_NUM_THREADS", "5,2"}})), 5);
  const int all = choose_compute_threads(config, 1, environment_of({}));
  EXPECT_GE(all, 1);
  EXPECT_EQ(choose_compute_threads(config, 2, environment_of({})), std::max(1, all / 2));
  EXPECT_EQ(choose_compute_threads(config, 4096, environment_of({})), 1);
  config.threads = 7;
  EXPECT_EQ(choose_compute_threads(config, 1, environment_of({{"OMP_NUM_THREADS", "3"}})), 7);
  config.threads = 0;
  EXPECT_THROW(choose_compute_threads(config, 1, environment_of({})), Error);
  config.threads.reset();
  EXPECT_THROW(choose_compute_threads(config, 1, environment_of({{"OMP_NUM_THREADS", "no"}})),
               Error);
}

}  // namespace
}  // namespace megatron
