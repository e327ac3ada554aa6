// Reads the launchers' variables. Nothing here opens a socket.
#include "megatron/parallel/rank_environment.h"

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr int kDefaultPort = 29500;  // c10d's

std::optional<int64_t> whole_number(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int> number(const Environment& environment, const std::string& name, int64_t least) {
  const auto text = environment(name);
  if (!text) return std::nullopt;
  const auto value = whole_number(*text);
  check(value && *value >= least && *value <= INT32_MAX,
        "Expected the environment variable {} to be a whole number of at least {}, but got '{}'",
        name, least, *text);
  return static_cast<int>(*value);
}

int required(const Environment& environment, const std::string& name, int64_t least,
             const std::string& because) {
  const auto value = number(environment, name, least);
  check(value.has_value(),
        "Expected the environment variable {} because {} is set, but it is not; a launcher such as "
        "torchrun sets both, and without either one rank runs alone",
        name, because);
  return *value;
}

void check_identity(const RankIdentity& identity) {
  check(identity.rank < identity.world_size,
        "Expected a rank of 0 to {} from {}, but got {}; see its variables for rank and world size",
        identity.world_size - 1, identity.launcher, identity.rank);
  check(identity.local_rank < identity.local_world_size &&
            identity.local_world_size <= identity.world_size,
        "Expected a local rank below the {} local ranks, and no more of these than the {} ranks of "
        "the world, from {}, but got local rank {}",
        identity.local_world_size, identity.world_size, identity.launcher, identity.local_rank);
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

// MASTER_ADDR, else --master-addr where it names another host, else `implied`, the address that the
// launcher implies.
std::string master_address(const LaunchConfig& config, const Environment& environment,
                           const std::string& implied) {
  if (const auto address = environment("MASTER_ADDR")) return *address;
  return is_loopback(config.master_addr) && !implied.empty() ? implied : config.master_addr;
}

int master_port(const LaunchConfig& config, const Environment& environment, int implied) {
  if (const auto port = number(environment, "MASTER_PORT", 1)) return *port;
  return config.master_port ? static_cast<int>(*config.master_port) : implied;
}

std::optional<RankIdentity> torchrun_identity(const LaunchConfig& config,
                                              const Environment& environment) {
  const bool has_rank = environment("RANK").has_value();
  const bool has_world = environment("WORLD_SIZE").has_value();
  if (!has_rank && !has_world) return std::nullopt;
  RankIdentity identity;
  identity.launcher = "torchrun";
  identity.rank = required(environment, "RANK", 0, "WORLD_SIZE");
  identity.world_size = required(environment, "WORLD_SIZE", 1, "RANK");
  identity.master_addr = master_address(config, environment, "");
  identity.master_port = master_port(config, environment, kDefaultPort);
  const auto local_rank = number(environment, "LOCAL_RANK", 0);
  const auto local_world = number(environment, "LOCAL_WORLD_SIZE", 1);
  // Variables set by hand are often RANK and WORLD_SIZE only. With a loopback MASTER_ADDR all ranks
  // are on this machine.
  const bool one_machine = is_loopback(identity.master_addr);
  check(
      local_rank || one_machine,
      "Expected the environment variable LOCAL_RANK because MASTER_ADDR ({}) is not this machine's "
      "loopback address, but it is not set",
      identity.master_addr);
  identity.local_rank = local_rank.value_or(identity.rank);
  identity.local_world_size =
      local_world.value_or(one_machine ? identity.world_size : identity.local_rank + 1);
  identity.hosts_store =
      identity.rank == 0 && environment("TORCHELASTIC_USE_AGENT_STORE").value_or("") != "True";
  identity.attempt = environment("TORCHELASTIC_RESTART_COUNT").value_or("");
  return identity;
}

std::optional<RankIdentity> open_mpi_identity(const LaunchConfig& config,
                                              const Environment& environment) {
  if (!environment("OMPI_COMM_WORLD_RANK") && !environment("OMPI_COMM_WORLD_SIZE")) {
    return std::nullopt;
  }
  RankIdentity identity;
  identity.launcher = "Open MPI";
  identity.rank = required(environment, "OMPI_COMM_WORLD_RANK", 0, "OMPI_COMM_WORLD_SIZE");
  identity.world_size = required(environment, "OMPI_COMM_WORLD_SIZE", 1, "OMPI_COMM_WORLD_RANK");
  identity.local_rank =
      required(environment, "OMPI_COMM_WORLD_LOCAL_RANK", 0, "OMPI_COMM_WORLD_RANK");
  identity.master_addr = master_address(config, environment, "");
  const bool one_machine = is_loopback(identity.master_addr);
  identity.local_world_size =
      number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE", 1)
          .value_or(one_machine ? identity.world_size : identity.local_rank + 1);
  check(identity.all_local() || !one_machine,
        "Expected MASTER_ADDR (or --master-addr) to name the host of rank 0, because Open MPI "
        "started ranks on several machines, but it is {}",
        identity.master_addr);
  identity.master_port = master_port(config, environment, kDefaultPort);
  identity.hosts_store = identity.rank == 0;
  return identity;
}

// The tasks of each node, from a list such as "4(x2),3".
std::vector<int> tasks_of_nodes(const std::string& list) {
  std::vector<int> tasks;
  size_t at = 0;
  while (at < list.size()) {
    size_t end = list.find(',', at);
    if (end == std::string::npos) end = list.size();
    std::string part = list.substr(at, end - at);
    int64_t repeat = 1;
    if (const auto times = part.find("(x"); times != std::string::npos && part.back() == ')') {
      repeat = whole_number(part.substr(times + 2, part.size() - times - 3)).value_or(0);
      part = part.substr(0, times);
    }
    const auto count = whole_number(part);
    if (!count || repeat < 1 || repeat > 1'000'000) return {};
    tasks.insert(tasks.end(), repeat, static_cast<int>(*count));
    at = end + 1;
  }
  return tasks;
}

// Whether this is a task of a step. A batch script and a shell of an allocation also have
// SLURM_PROCID=0 and the job's SLURM_NTASKS, but no step, or one of SLURM's reserved step numbers.
bool in_slurm_step(const Environment& environment) {
  constexpr int64_t kFirstReservedStep = 0xfffffff0;
  if (!environment("SLURM_PROCID")) return false;
  if (!environment("SLURM_JOB_ID") && !environment("SLURM_JOBID")) return true;  // set by hand
  auto step = environment("SLURM_STEP_ID");
  if (!step) step = environment("SLURM_STEPID");
  if (!step) return environment("SLURM_PROCID") != "0";
  return whole_number(*step).value_or(0) < kFirstReservedStep;
}

std::optional<RankIdentity> slurm_identity(const LaunchConfig& config,
                                           const Environment& environment) {
  if (!in_slurm_step(environment)) return std::nullopt;
  auto tasks = number(environment, "SLURM_STEP_NUM_TASKS", 1);
  if (!tasks) tasks = number(environment, "SLURM_NTASKS", 1);
  if (!tasks || *tasks == 1) return std::nullopt;

  RankIdentity identity;
  identity.launcher = "SLURM";
  identity.rank = required(environment, "SLURM_PROCID", 0, "SLURM_NTASKS");
  identity.world_size = *tasks;
  identity.local_rank = required(environment, "SLURM_LOCALID", 0, "SLURM_PROCID");
  std::string hosts;
  for (const auto* name : {"SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST"}) {
    if (const auto list = environment(name); list && hosts.empty()) hosts = *list;
  }
  const int nodes =
      number(environment, "SLURM_STEP_NUM_NODES", 1)
          .value_or(number(environment, "SLURM_NNODES", 1)
                        .value_or(hosts.find_first_of(",[") == std::string::npos ? 1 : 2));
  if (nodes == 1) {
    identity.local_world_size = identity.world_size;
  } else {
    const auto layout =
        tasks_of_nodes(environment("SLURM_STEP_TASKS_PER_NODE")
                           .value_or(environment("SLURM_TASKS_PER_NODE").value_or("")));
    const auto node = static_cast<size_t>(number(environment, "SLURM_NODEID", 0).value_or(0));
    identity.local_world_size = node < layout.size() ? layout[node] : identity.local_rank + 1;
  }
  const std::string implied = nodes == 1 ? "127.0.0.1" : first_slurm_host(hosts);
  identity.master_addr = master_address(config, environment, implied);
  check(nodes == 1 || !is_loopback(identity.master_addr),
        "Expected MASTER_ADDR, --master-addr or SLURM_NODELIST to name the host of rank 0, because "
        "SLURM started ranks on {} machines, but got {}",
        nodes, identity.master_addr);
  // Jobs on the same node need different ports.
  auto job = number(environment, "SLURM_JOB_ID", 0);
  if (!job) job = number(environment, "SLURM_JOBID", 0);
  identity.master_port =
      master_port(config, environment, job ? 20000 + *job % 20000 : kDefaultPort);
  identity.hosts_store = identity.rank == 0;
  return identity;
}

}  // namespace

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') return std::nullopt;
    return std::string(value);
  };
}

std::optional<RankIdentity> identity_from_environment(const LaunchConfig& config,
                                                      const Environment& environment) {
  auto identity = torchrun_identity(config, environment);
  if (!identity) identity = open_mpi_identity(config, environment);
  if (!identity) identity = slurm_identity(config, environment);
  if (identity) {
    check_identity(*identity);
    check(identity->master_port <= 65535, "Expected a MASTER_PORT of 1 to 65535, but got {}",
          identity->master_port);
  }
  return identity;
}

std::string first_slurm_host(const std::string& list) {
  const auto bracket = list.find('[');
  const auto comma = list.find(',');
  if (bracket == std::string::npos || comma < bracket) return list.substr(0, comma);
  const auto end = list.find_first_of("-,]", bracket + 1);
  if (end == std::string::npos) return list.substr(0, bracket);
  const auto close = list.find(']', bracket);
  const auto after = list.find(',', close);
  const std::string suffix =
      close == std::string::npos ? "" : list.substr(close + 1, after - close - 1);
  return list.substr(0, bracket) + list.substr(bracket + 1, end - bracket - 1) + suffix;
}

}  // namespace megatron
