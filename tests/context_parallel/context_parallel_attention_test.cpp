// Context-parallel attention against attention on one rank: values and all gradients.
#include "megatron/context_parallel/context_parallel_attention.h"

#include "megatron/context_parallel/all_to_all_attention.h"
#include "megatron/ops/attention/attention.h"
#include "megatron/ops/attention/fused_attention.h"
#include "megatron/parallel/collectives.h"

#include "tests/ops/op_test.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using test::Operator;

enum class CommType { p2p, all_gather, a2a };

struct SequenceCase {
  int64_t s = 16, b = 2, n = 4, g = 2, d = 8, dv = 8;
  std::optional<AttentionWindow> window;
  std::vector<int64_t> cu_seqlens;
  bool sink = false, dropout = false;
  bool mask = false, bias = false, unfused = false;
  double soft_cap = 0;
  std::string text() const {
    return fmt::format("s {} b {} n {} g {} dv {}{}{}{}{}{}{}{} cap {}", s, b, n, g, dv,
                       window ? " window" : "", cu_seqlens.empty() ? "" : " packed",
                       sink ? " sink" : "", dropout ? " dropout" : "", mask ? " mask" : "",
                       bias ? " bias" : "", unfused ? " unfused" : "", soft_cap);
  }

  at::Tensor offsets() const {
    return cu_seqlens.empty() ? at::Tensor() : at::tensor(cu_seqlens, at::kLong);
  }
  AttentionDropout dropout_at(const at::Tensor& positions, int64_t head_offset = 4) const {
    return {.p = dropout ? 0.3 : 0.0,
            .key = {.seed = 9, .layer = 2, .site = 1},
            .queries = {at::arange(70, 70 + b, at::kLong), positions},
            .head_offset = head_offset};
  }
  // Queries see up to two keys ahead, but not every fifth key; one query sees no key.
  at::Tensor masked() const {
    if (!mask) return {};
    const at::Tensor index = at::arange(s, at::kLong);
    at::Tensor hidden = index.unsqueeze(0).gt(index.unsqueeze(1) + 2).logical_or(index % 5 == 1);
    hidden = hidden.view({1, 1, s, s}).repeat({b, 1, 1, 1});
    hidden.select(0, 0).select(1, s / 2).fill_(true);
    return hidden;
  }
  // Of the full sequence.
  AttentionMask attention_mask() const {
    return {.causal = !mask, .window = window, .cu_seqlens_q = offsets(), .masked = masked()};
  }
};

constexpr double kScale = 0.4;

// q, k, v, then the sink and the bias if the case has them.
std::vector<at::Tensor> inputs_of(const SequenceCase& row, at::ScalarType dtype) {
  std::vector<at::Tensor> inputs = {test::random_tensor({row.s, row.b, row.n, row.d}, dtype, 1),
                                    test::random_tensor({row.s, row.b, row.g, row.d}, dtype, 2),
                                    test::random_tensor({row.s, row.b, row.g, row.dv}, dtype, 3)};
  if (row.sink) inputs.push_back(test::random_tensor({row.n}, dtype, 4));
  if (row.bias) inputs.push_back(test::random_tensor({1, row.n, row.s, row.s}, dtype, 5));
  return inputs;
}

at::Tensor sink_of(const SequenceCase& row, const std::vector<at::Tensor>& inputs) {
  return row.sink ? inputs[3] : at::Tensor();
}
at::Tensor bias_of(const SequenceCase& row, const std::vector<at::Tensor>& inputs) {
  return row.bias ? inputs.back() : at::Tensor();
}

// One rank's attention by the reference versions, in fp64.
Operator one_rank(const SequenceCase& row) {
  return [row](const std::vector<at::Tensor>& given) {
    std::vector<at::Tensor> in;
    for (const at::Tensor& input : given) in.push_back(input.to(at::kDouble));
    const AttentionDropout dropout = row.dropout_at(at::arange(row.s, at::kLong));
    at::Tensor out;
    if (row.mask || row.bias) {
      out = reference::core_attention(in[0], in[1], in[2],
                                      {.scale = kScale,
                                       .soft_cap = row.soft_cap,
                                       .mask = row.attention_mask(),
                                       .bias = bias_of(row, in),
                                       .softmax_offset = sink_of(row, in),
                                       .dropout = dropout});
    } else {
      out = reference::fused_attention(in[0], in[1], in[2],
                                       {.scale = kScale,
                                        .soft_cap = row.soft_cap,
                                        .mask = row.attention_mask(),
                                        .softmax_offset = sink_of(row, in),
                                        .dropout = dropout});
    }
    return out.to(given[0].scalar_type());
  };
}

// The same on one rank of a group, whose outputs are gathered.
Operator context_parallel(const ProcessGroupPtr& cp, const SequenceCase& row, CommType comm_type) {
  return [=](const std::vector<at::Tensor>& given) {
    const SequenceSplit split{.length = row.s, .size = cp->size(), .cu_seqlens = row.offsets()};
    const at::Tensor positions = zigzag_positions(split, cp->rank());
    std::vector<at::Tensor> in;  // gradients are summed over the ranks
    for (const at::Tensor& input : given)
      in.push_back(copy_to_tensor_model_parallel_region(input, *cp));
    const auto local = [&](const at::Tensor& x) { return x.index_select(0, positions); };
    const auto rows = [&](const at::Tensor& x) {
      return x.defined() ? x.index_select(2, positions) : x;
    };
    at::Tensor out;
    if (comm_type == CommType::a2a) {
      const int64_t heads = row.n / cp->size(), first = heads * cp->rank();
      at::Tensor sink = sink_of(row, in), bias = bias_of(row, in);
      if (sink.defined()) sink = sink.narrow(0, first, heads);
      if (bias.defined()) bias = bias.narrow(1, first, heads);
      const AttentionDropout dropout = row.dropout_at(at::arange(row.s, at::kLong), 4 + first);
      const auto attend = [&](const auto& q, const auto& k, const auto& v) {
        const AttentionOptions options{.scale = kScale,
                                       .soft_cap = row.soft_cap,
                                       .mask = row.attention_mask(),
                                       .bias = bias,
                                       .softmax_offset = sink,
                                       .dropout = dropout};
        return row.mask || row.bias ? core_attention(q, k, v, options)
                                    : fused_attention(q, k, v, options);
      };
      out = all_to_all_attention(local(in[0]), local(in[1]), local(in[2]), split, cp, attend);
    } else {
      out = context_parallel_attention(
          local(in[0]), local(in[1]), local(in[2]),
          {.cp = cp,
           .split = split,
           .exchange = comm_type == CommType::p2p ? KeyExchange::p2p : KeyExchange::all_gather,
           .attention = {.scale = kScale,
                         .soft_cap = row.soft_cap,
                         .mask = {.causal = !row.mask,
                                  .window = row.window,
                                  .masked = rows(row.masked())},
                         .bias = rows(bias_of(row, in)),
                         .softmax_offset = sink_of(row, in),
                         .dropout = row.dropout_at(positions)},
           .unfused = row.unfused || row.mask || row.bias});
    }
    return gather_from_sequence_parallel_region(out, *cp, /*tensor_parallel_output_grad=*/false)
        .index_select(0, inverse_permutation(gathered_positions(split)));
  };
}

// Calls body(cp, comm_type) on every rank of groups of 2 and 4 ranks, for every way to communicate.
void for_each_comm_type(const std::function<void(const ProcessGroupPtr&, CommType)>& body,
                        std::vector<int> sizes = {2, 4}) {
  for (const int ranks : sizes) {
    run_thread_world(ranks, [&](RankContext& rank) {
      const auto cp = rank.make_groups({.cp = ranks}).cp;
      for (const CommType comm_type : {CommType::p2p, CommType::all_gather, CommType::a2a}) {
        SCOPED_TRACE(fmt::format("{} ranks, comm type {}", ranks, int(comm_type)));
        body(cp, comm_type);
      }
    });
  }
}

void expect_like_one_rank(const SequenceCase& row, at::ScalarType dtype, double bound) {
  const auto inputs = inputs_of(row, dtype);
  const auto want = test::run(one_rank(row), inputs);
  for_each_comm_type([&](const ProcessGroupPtr& cp, CommType comm_type) {
    const auto got = test::run(context_parallel(cp, row, comm_type), inputs);
    test::expect_close(got.value, want.value, bound, row.text() + ", value");
    for (size_t i = 0; i < want.gradients.size(); ++i) {
      test::expect_close(got.gradients[i], want.gradients[i], 10 * bound,
                         fmt::format("{}, gradient {}", row.text(), i));
    }
  });
}

const std::vector<SequenceCase>& sequence_cases() {
  static const std::vector<SequenceCase> all = {
      {},
      {.g = 4},
      {.g = 1},
      {.dv = 5},
      {.window = AttentionWindow{3, 0}},
      {.b = 1, .cu_seqlens = {0, 8, 16}},
      {.s = 32, .b = 1, .window = AttentionWindow{5, 0}, .cu_seqlens = {0, 8, 32}, .dropout = true},
      {.sink = true},
      {.dropout = true},
      {.window = AttentionWindow{6, 0}, .sink = true, .dropout = true},
      {.unfused = true},
      {.b = 1, .cu_seqlens = {0, 8, 16}, .sink = true, .dropout = true, .unfused = true},
      {.mask = true},
      {.soft_cap = 0.7},
      {.window = AttentionWindow{6, 0}, .sink = true, .dropout = true, .soft_cap = 0.7},
      {.unfused = true, .soft_cap = 0.7},
      {.mask = true, .bias = true, .soft_cap = 0.7},
      {.dropout = true, .mask = true},
      {.bias = true},
      {.window = AttentionWindow{6, 0}, .sink = true, .dropout = true, .bias = true},
      {.sink = true, .mask = true, .bias = true},
  };
  return all;
}

TEST(ContextParallelAttention, EqualsOneRankInFp64) {
  for (const SequenceCase& row : sequence_cases()) expect_like_one_rank(row, at::kDouble, 1e-12);
}

TEST(ContextParallelAttention, EqualsOneRankInFp32) {
  for (const SequenceCase& row : sequence_cases()) expect_like_one_rank(row, at::kFloat, 5e-6);
}

// Sums are in fp32; each block's output is rounded to bf16.
TEST(ContextParallelAttention, EqualsOneRankInBf16) {
  for (const SequenceCase& row :
       {SequenceCase{}, SequenceCase{.g = 1, .dv = 5}, SequenceCase{.sink = true, .dropout = true},
        SequenceCase{.mask = true}}) {
    expect_like_one_rank(row, at::kBFloat16, 2e-2);
  }
}

// Chunk boundaries fall inside the kernels' blocks of 64 queries and 128 keys.
TEST(ContextParallelAttention, EqualsOneRankForLongChunks) {
  for (const SequenceCase& row :
       {SequenceCase{.s = 520, .b = 1, .n = 4, .g = 2, .d = 16, .dv = 16, .dropout = true},
        SequenceCase{.s = 520,
        .b = 1,
        .n = 4,
        .g = 4,
        .d = 16,
        .dv = 16,
        .window = AttentionWindow{100, 0},
        .sink = true,
        .dropout = true},
        SequenceCase{.s = 640,
        .b = 1,
        .n = 4,
        .g = 2,
        .d = 16,
        .dv = 16,
        .cu_seqlens = {0, 8, 320, 400, 640},
        .dropout = true}}) {
    expect_like_one_rank(row, at::kDouble, 1e-12);
    expect_like_one_rank(row, at::kFloat, 1e-5);
  }
}

TEST(ContextParallelAttention, GradientsMatchFiniteDifferences) {
  SequenceCase small{.s = 8, .b = 1, .n = 4, .g = 2, .d = 3, .dv = 2};
  for (const SequenceCase& kind :
       {SequenceCase{.sink = true, .dropout = true}, SequenceCase{.window = AttentionWindow{2, 0}},
        SequenceCase{.sink = true, .dropout = true, .bias = true}}) {
    SequenceCase row = small;
    row.sink = kind.sink, row.dropout = kind.dropout, row.bias = kind.bias,
    row.window = kind.window;
    const auto inputs = inputs_of(row, at::kDouble);
    for_each_comm_type(
        [&](const ProcessGroupPtr& cp, CommType comm_type) {
          test::expect_gradients_by_differences(context_parallel(cp, row, comm_type), inputs);
        },
        {2});
  }
}

TEST(ContextParallelAttention, IsDeterministic) {
  const SequenceCase row{.s = 64, .n = 8, .sink = true, .dropout = true};
  const auto inputs = inputs_of(row, at::kFloat);
  for_each_comm_type([&](const ProcessGroupPtr& cp, CommType comm_type) {
    const auto once = test::run(context_parallel(cp, row, comm_type), inputs);
    const auto again = test::run(context_parallel(cp, row, comm_type), inputs);
    test::expect_identical(again.value, once.value);
    for (size_t i = 0; i < once.gradients.size(); ++i)
      test::expect_identical(again.gradients[i], once.gradients[i]);
  });
}

TEST(ContextParallelAttention, RefusesInvalidArguments) {
  run_thread_world(4, [](RankContext& rank) {
    const auto cp = rank.make_groups({.cp = 4}).cp;
    const auto shard = [](int64_t s, int64_t heads) { return at::ones({s, 1, heads, 4}); };
    const SequenceSplit split{.length = 16, .size = 4};
    const auto attend = [](const auto& q, const auto&, const auto&) { return q; };
    test::expect_error(
        [&] { all_to_all_attention(shard(4, 6), shard(4, 2), shard(4, 2), split, cp, attend); },
        "heads that 4 ranks can share, but got 6 and 2");
    test::expect_error(
        [&] { all_to_all_attention(shard(4, 12), shard(4, 3), shard(4, 3), split, cp, attend); },
        "--cp-comm-type p2p or allgather works");
    test::expect_error(
        [&] {
          context_parallel_attention(shard(5, 2), shard(5, 2), shard(5, 2),
                                     {.cp = cp, .split = split});
        },
        "Expected 4 queries and keys on each of 4 ranks");
    test::expect_error(
        [&] {
          context_parallel_attention(
              shard(4, 2), shard(4, 2), shard(4, 2),
              {.cp = cp,
               .split = split,
               .attention = {.mask = {.masked = at::zeros({1, 1, 16, 16}, at::kBool)}},
               .unfused = true});
        },
        "this rank's rows");
    test::expect_error(
        [&] {
          context_parallel_attention(
              shard(4, 2), shard(4, 2), shard(4, 2),
              {.cp = cp, .split = split, .attention = {.mask = {.query_offset = 4}}});
        },
        "positions and cu_seqlens in the split alone");
  });
}

}  // namespace
}  // namespace megatron
