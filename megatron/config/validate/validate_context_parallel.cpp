// The checks of a sequence that several ranks share.
#include <numeric>

#include "megatron/base/problems.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

// Whether heads are shared out over the ranks of a tensor-parallel rank's context-parallel group.
void check_exchanged_heads(const TransformerConfig& t, Problems& problems) {
  const int64_t cp = t.context_parallel_size, tp = t.tensor_model_parallel_size;
  if (t.num_attention_heads % tp != 0) return;  // said elsewhere
  const int64_t heads = t.num_attention_heads / tp;
  const int64_t groups =
      t.mla.multi_latent_attention ? heads : std::max<int64_t>(t.query_groups() / tp, 1);
  problems.expect(heads % cp == 0,
                  "Expected attention heads of a tensor parallel rank divisible by "
                  "--context-parallel-size ({}) with --cp-comm-type a2a, but got {}; a context "
                  "parallel size of {} would work, or --cp-comm-type p2p or allgather",
                  cp, heads, nearest_divisors(heads, cp));
  problems.expect(groups % cp == 0 || cp % groups == 0,
                  "Expected query groups of a tensor parallel rank and --context-parallel-size of "
                  "which one divides the other with --cp-comm-type a2a, but got {} and {}; "
                  "--cp-comm-type p2p or allgather works",
                  groups, cp);
}

}  // namespace

void check_context_parallel(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const int64_t cp = t.context_parallel_size;
  if (cp == 1) {
    problems.expect(
        t.cp_comm_type == CpCommType::p2p,
        "Expected --context-parallel-size above 1 with --cp-comm-type, but got 1; leave "
        "--cp-comm-type out");
    return;
  }
  // Two chunks a rank, and each rank's part once more by the tensor parallel ranks.
  const int64_t tensor = t.sequence_parallel ? t.tensor_model_parallel_size : 1;
  const int64_t parts = 2 * cp * tensor;
  problems.expect(config.seq_length % parts == 0,
                  "Expected --seq-length divisible by {} (2 x context parallel {}{}), but got {}; "
                  "{} would work",
                  parts, cp,
                  tensor == 1
                      ? std::string()
                      : fmt::format(" x tensor parallel {} with --sequence-parallel", tensor),
                  config.seq_length, nearest_multiples(parts, config.seq_length));
  if (t.cp_comm_type == CpCommType::a2a) check_exchanged_heads(t, problems);
}

}  // namespace megatron
