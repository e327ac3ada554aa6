// Checks of the launch options and of the number of ranks.
#include <algorithm>

#include "megatron/base/problems.h"
#include "megatron/config/validate/validate.h"

namespace megatron {

void check_launch(const LaunchConfig& config, int world_size, Problems& problems) {
  if (config.nproc && problems.at_least("--nproc", *config.nproc, 1)) {
    problems.expect(*config.nproc <= kMostLocalRanks, "Expected --nproc of 1 to {}, but got {}",
                    kMostLocalRanks, *config.nproc);
  }
  if (config.threads) problems.at_least("--threads", *config.threads, 1);
  problems.expect(
      !config.threads_as_ranks || config.nproc.has_value(),
      "Expected --nproc with --threads-as-ranks, but got none; --nproc N sets the number of ranks");
  if (config.master_port) {
    problems.expect(*config.master_port >= 1 && *config.master_port <= 65535,
                    "Expected --master-port between 1 and 65535, but got {}; the default is a free "
                    "port",
                    *config.master_port);
  }
  const bool connects = world_size > 1 && !config.threads_as_ranks;
  const auto needs_processes = [&](bool is_default, const char* flag) {
    problems.expect(connects || is_default,
                    "Expected several ranks as processes with {}, but got {}; leave it out", flag,
                    config.threads_as_ranks ? "threads" : "one rank");
  };
  needs_processes(!config.master_port, "--master-port");
  needs_processes(config.master_addr == LaunchConfig().master_addr, "--master-addr");
  problems.expect(config.distributed_timeout_minutes > 0,
                  "Expected --distributed-timeout-minutes above 0, but got {}; 10 is the default",
                  config.distributed_timeout_minutes);
}

namespace {

// The experts share the ranks of a pipeline stage.
void check_expert_ranks(const TransformerConfig& t, int64_t stage, Problems& problems) {
  const int64_t tensor = t.expert_tensor_parallel(), expert = t.expert_model_parallel_size;
  if (!t.moe.has_experts() || tensor < 1 || expert < 1) return;
  if (stage % tensor != 0) {
    problems.expect(false,
                    "Expected --expert-tensor-parallel-size to divide the {} ranks of a pipeline "
                    "stage, but got {}; {} would work",
                    stage, tensor, nearest_divisors(stage, tensor));
    return;
  }
  problems.expect(
      stage / tensor % expert == 0,
      "Expected --expert-model-parallel-size to divide the {} ranks of a pipeline stage "
      "over expert tensor parallel size {}, but got {}; {} would work",
      stage, tensor, expert, nearest_divisors(stage / tensor, expert));
}

}  // namespace

void check_world_size(const TransformerConfig& t, int world_size, Command command,
                      Problems& problems) {
  const int64_t tensor = t.tensor_model_parallel_size;
  const int64_t stages = t.pipeline_model_parallel_size;
  constexpr int64_t kMost = int64_t{1} << 30;  // the product of three such sizes overflows
  const auto is_size = [&](int64_t size) { return size >= 1 && size <= kMost; };
  if (!is_size(tensor) || !is_size(stages) || !is_size(t.context_parallel_size)) return;
  const int64_t context = tensor * stages <= kMost ? t.context_parallel_size : 1;
  const int64_t model = tensor * stages * context;
  const int64_t ranks = std::max<int64_t>(world_size / model, 1) * model;
  problems.expect(world_size >= 1 && world_size % model == 0,
                  "Expected a number of ranks divisible by {} (tensor {} x pipeline {}{}), but got "
                  "{}; {} ranks would work: {} {}, or {} {}",
                  model, tensor, stages,
                  context == 1 ? std::string() : fmt::format(" x context {}", context), world_size,
                  nearest_multiples(model, world_size),
                  command == Command::plan ? "--world-size" : "--nproc", ranks,
                  command == Command::plan ? "--nproc" : "torchrun --nproc-per-node", ranks);
  if (world_size >= 1 && world_size % model == 0)
    check_expert_ranks(t, world_size / t.pipeline_model_parallel_size, problems);
}

}  // namespace megatron
