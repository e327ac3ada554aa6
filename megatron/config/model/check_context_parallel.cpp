// Checks of context parallelism.
#include <algorithm>

#include "megatron/base/problems.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

// cp_comm_type a2a shards the heads of a tensor-parallel rank over the context-parallel group.
void check_all_to_all_heads(const TransformerConfig& t, Problems& problems) {
  const int64_t cp = t.context_parallel_size, tp = t.tensor_model_parallel_size;
  if (t.num_attention_heads % tp != 0) return;  // check_tensor_parallel reports this
  const int64_t heads = t.num_attention_heads / tp;
  const int64_t groups =
      t.mla.multi_latent_attention ? heads : std::max<int64_t>(t.query_groups() / tp, 1);
  problems.expect(heads % cp == 0,
                  "Expected the number of attention heads per tensor-parallel rank divisible by "
                  "context_parallel_size ({}) with cp_comm_type=a2a, but got {}; a context "
                  "parallel size of {} would work, or cp_comm_type p2p or allgather",
                  cp, heads, nearest_divisors(heads, cp));
  problems.expect(groups % cp == 0 || cp % groups == 0,
                  "Expected the number of query groups per tensor-parallel rank to divide "
                  "context_parallel_size, or the reverse, with cp_comm_type=a2a, but got {} and "
                  "{}; cp_comm_type p2p or allgather works",
                  groups, cp);
}

}  // namespace

void check_context_parallel(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const int64_t cp = t.context_parallel_size;
  if (cp == 1) {
    problems.expect(t.cp_comm_type == CpCommType::p2p,
                    "Expected context_parallel_size above 1 with cp_comm_type, but got 1; leave "
                    "cp_comm_type out");
    return;
  }
  // Each rank holds two chunks of a sequence; sequence parallelism shards them further.
  const int64_t tensor = t.sequence_parallel ? t.tensor_model_parallel_size : 1;
  const int64_t shards = 2 * cp * tensor;
  problems.expect(
      config.seq_length % shards == 0,
      "Expected seq_length divisible by {} (2 x context parallel {}{}), but got {}; {} would work",
      shards, cp,
      tensor == 1 ? std::string()
                  : fmt::format(" x tensor parallel {} with sequence_parallel", tensor),
      config.seq_length, nearest_multiples(shards, config.seq_length));
  if (t.cp_comm_type == CpCommType::a2a) check_all_to_all_heads(t, problems);
}

}  // namespace megatron
