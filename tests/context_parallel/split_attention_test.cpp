// Attention over a split row against attention over the whole row: values and all gradients.
#include "megatron/context_parallel/split_attention.h"

#include "megatron/context_parallel/head_exchange.h"
#include "megatron/ops/attention/fused_attention.h"
#include "megatron/parallel/collectives.h"

#include "tests/ops/op_test.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using test::Operator;

enum class Exchange { ring, gather, heads };

struct Row {
  int64_t s = 16, b = 2, n = 4, g = 2, d = 8, dv = 8;
  std::optional<AttentionWindow> window;
  std::vector<int64_t> cu_seqlens;
  bool sink = false, dropout = false;
  bool mask = false, bias = false, in_full = false;
  std::string text() const {
    return fmt::format("s {} b {} n {} g {} dv {}{}{}{}{}{}{}{}", s, b, n, g, dv,
                       window ? " window" : "", cu_seqlens.empty() ? "" : " packed",
                       sink ? " sink" : "", dropout ? " dropout" : "", mask ? " mask" : "",
                       bias ? " bias" : "", in_full ? " in full" : "");
  }

  at::Tensor offsets() const {
    return cu_seqlens.empty() ? at::Tensor() : at::tensor(cu_seqlens, at::kLong);
  }
  AttentionDropout drawn_at(const at::Tensor& positions, int64_t head_offset = 4) const {
    return {.p = dropout ? 0.3 : 0.0,
            .key = {.seed = 9, .layer = 2, .site = 1},
            .queries = {at::arange(70, 70 + b, at::kLong), positions},
            .head_offset = head_offset};
  }
  // Two keys ahead are seen, some in the middle are not; one query sees nothing at all.
  at::Tensor masked() const {
    if (!mask) return {};
    const at::Tensor index = at::arange(s, at::kLong);
    at::Tensor hidden = index.unsqueeze(0).gt(index.unsqueeze(1) + 2).logical_or(index % 5 == 1);
    hidden = hidden.view({1, 1, s, s}).repeat({b, 1, 1, 1});
    hidden.select(0, 0).select(1, s / 2).fill_(true);
    return hidden;
  }
};

constexpr double kScale = 0.4;

// q, k, v, then the sink and the bias where there are such.
std::vector<at::Tensor> inputs_of(const Row& row, at::ScalarType dtype) {
  std::vector<at::Tensor> inputs = {test::random_tensor({row.s, row.b, row.n, row.d}, dtype, 1),
                                    test::random_tensor({row.s, row.b, row.g, row.d}, dtype, 2),
                                    test::random_tensor({row.s, row.b, row.g, row.dv}, dtype, 3)};
  if (row.sink) inputs.push_back(test::random_tensor({row.n}, dtype, 4));
  if (row.bias) inputs.push_back(test::random_tensor({1, row.n, row.s, row.s}, dtype, 5));
  return inputs;
}

at::Tensor sink_of(const Row& row, const std::vector<at::Tensor>& inputs) {
  return row.sink ? inputs[3] : at::Tensor();
}
at::Tensor bias_of(const Row& row, const std::vector<at::Tensor>& inputs) {
  return row.bias ? inputs.back() : at::Tensor();
}

// By the reference versions of whole rows, in fp64.
Operator whole(const Row& row) {
  return [row](const std::vector<at::Tensor>& given) {
    std::vector<at::Tensor> in;
    for (const at::Tensor& input : given) in.push_back(input.to(at::kDouble));
    const AttentionDropout dropout = row.drawn_at(at::arange(row.s, at::kLong));
    at::Tensor out;
    if (row.mask || row.bias) {
      out = reference::core_attention(in[0], in[1], in[2],
                                      {.scale = kScale,
                                       .causal = !row.mask,
                                       .window = row.window,
                                       .mask = row.masked(),
                                       .bias = bias_of(row, in),
                                       .softmax_offset = sink_of(row, in),
                                       .dropout = dropout});
    } else {
      out = reference::fused_attention(in[0], in[1], in[2],
                                       {.scale = kScale,
                                        .window = row.window,
                                        .cu_seqlens_q = row.offsets(),
                                        .softmax_offset = sink_of(row, in),
                                        .dropout = dropout});
    }
    return out.to(given[0].scalar_type());
  };
}

// The same as one rank of a group: takes its part, attends, and gathers what all have.
Operator split_over(const ProcessGroupPtr& cp, const Row& row, Exchange exchange) {
  return [=](const std::vector<at::Tensor>& given) {
    const SequenceSplit split{.length = row.s, .size = cp->size(), .cu_seqlens = row.offsets()};
    const at::Tensor positions = zigzag_positions(split, cp->rank());
    std::vector<at::Tensor> in;  // gradients come back from all ranks
    for (const at::Tensor& input : given)
      in.push_back(copy_to_tensor_model_parallel_region(input, *cp));
    const auto own = [&](const at::Tensor& x) { return x.index_select(0, positions); };
    const auto rows = [&](const at::Tensor& x) {
      return x.defined() ? x.index_select(2, positions) : x;
    };
    at::Tensor out;
    if (exchange == Exchange::heads) {
      const int64_t heads = row.n / cp->size(), first = heads * cp->rank();
      at::Tensor sink = sink_of(row, in), bias = bias_of(row, in);
      if (sink.defined()) sink = sink.narrow(0, first, heads);
      if (bias.defined()) bias = bias.narrow(1, first, heads);
      const AttentionDropout dropout = row.drawn_at(at::arange(row.s, at::kLong), 4 + first);
      const auto attend = [&](const auto& q, const auto& k, const auto& v) {
        if (row.mask || row.bias) {
          return core_attention(q, k, v,
                                {.scale = kScale,
                                 .causal = !row.mask,
                                 .window = row.window,
                                 .mask = row.masked(),
                                 .bias = bias,
                                 .softmax_offset = sink,
                                 .dropout = dropout});
        }
        return fused_attention(q, k, v,
                               {.scale = kScale,
                                .window = row.window,
                                .cu_seqlens_q = row.offsets(),
                                .softmax_offset = sink,
                                .dropout = dropout});
      };
      out = exchange_heads(own(in[0]), own(in[1]), own(in[2]), split, cp, attend);
    } else {
      out = split_attention(
          own(in[0]), own(in[1]), own(in[2]),
          {.cp = cp,
           .split = split,
           .transport = exchange == Exchange::ring ? KeyTransport::ring : KeyTransport::gather,
           .scale = kScale,
           .causal = !row.mask,
           .window = row.window,
           .softmax_offset = sink_of(row, in),
           .dropout = row.drawn_at(positions),
           .in_full = row.in_full || row.mask || row.bias,
           .mask = rows(row.masked()),
           .bias = rows(bias_of(row, in))});
    }
    return gather_from_sequence_parallel_region(out, *cp, /*tensor_parallel_output_grad=*/false)
        .index_select(0, places_of_tokens(gathered_positions(split)));
  };
}

// Calls body(cp, exchange) on every rank for 2 and 4 ranks and all exchanges.
void in_every_exchange(const std::function<void(const ProcessGroupPtr&, Exchange)>& body,
                       std::vector<int> sizes = {2, 4}) {
  for (const int ranks : sizes) {
    run_thread_world(ranks, [&](RankContext& rank) {
      const auto cp = rank.make_groups({.cp = ranks}).cp;
      for (const Exchange exchange : {Exchange::ring, Exchange::gather, Exchange::heads}) {
        SCOPED_TRACE(fmt::format("{} ranks, exchange {}", ranks, int(exchange)));
        body(cp, exchange);
      }
    });
  }
}

void expect_like_the_whole_row(const Row& row, at::ScalarType dtype, double bound) {
  const auto inputs = inputs_of(row, dtype);
  const auto want = test::run(whole(row), inputs);
  in_every_exchange([&](const ProcessGroupPtr& cp, Exchange exchange) {
    const auto got = test::run(split_over(cp, row, exchange), inputs);
    test::expect_close(got.value, want.value, bound, row.text() + ", value");
    for (size_t i = 0; i < want.gradients.size(); ++i) {
      test::expect_close(got.gradients[i], want.gradients[i], 10 * bound,
                         fmt::format("{}, gradient {}", row.text(), i));
    }
  });
}

const std::vector<Row>& rows() {
  static const std::vector<Row> all = {
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
      {.in_full = true},
      {.b = 1, .cu_seqlens = {0, 8, 16}, .sink = true, .dropout = true, .in_full = true},
      {.mask = true},
      {.dropout = true, .mask = true},
      {.bias = true},
      {.window = AttentionWindow{6, 0}, .sink = true, .dropout = true, .bias = true},
      {.sink = true, .mask = true, .bias = true},
  };
  return all;
}

TEST(SplitAttention, EqualsTheWholeRowInFp64) {
  for (const Row& row : rows()) expect_like_the_whole_row(row, at::kDouble, 1e-12);
}

TEST(SplitAttention, EqualsTheWholeRowInFp32) {
  for (const Row& row : rows()) expect_like_the_whole_row(row, at::kFloat, 5e-6);
}

// Sums are kept in fp32; what is rounded to bf16 is each block's output.
TEST(SplitAttention, EqualsTheWholeRowInBf16) {
  for (const Row& row :
       {Row{}, Row{.g = 1, .dv = 5}, Row{.sink = true, .dropout = true}, Row{.mask = true}}) {
    expect_like_the_whole_row(row, at::kBFloat16, 2e-2);
  }
}

// Chunks that end inside the kernels' blocks of 64 queries and 128 keys.
TEST(SplitAttention, LongChunks) {
  for (const Row& row : {Row{.s = 520, .b = 1, .n = 4, .g = 2, .d = 16, .dv = 16, .dropout = true},
                         Row{.s = 520,
                         .b = 1,
                         .n = 4,
                         .g = 4,
                         .d = 16,
                         .dv = 16,
                         .window = AttentionWindow{100, 0},
                         .sink = true,
                         .dropout = true},
                         Row{.s = 640,
                         .b = 1,
                         .n = 4,
                         .g = 2,
                         .d = 16,
                         .dv = 16,
                         .cu_seqlens = {0, 8, 320, 400, 640},
                         .dropout = true}}) {
    expect_like_the_whole_row(row, at::kDouble, 1e-12);
    expect_like_the_whole_row(row, at::kFloat, 1e-5);
  }
}

TEST(SplitAttention, GradientsByFiniteDifferences) {
  Row small{.s = 8, .b = 1, .n = 4, .g = 2, .d = 3, .dv = 2};
  for (const Row& kind : {Row{.sink = true, .dropout = true}, Row{.window = AttentionWindow{2, 0}},
                          Row{.sink = true, .dropout = true, .bias = true}}) {
    Row row = small;
    row.sink = kind.sink, row.dropout = kind.dropout, row.bias = kind.bias,
    row.window = kind.window;
    const auto inputs = inputs_of(row, at::kDouble);
    in_every_exchange(
        [&](const ProcessGroupPtr& cp, Exchange exchange) {
          test::expect_gradients_by_differences(split_over(cp, row, exchange), inputs);
        },
        {2});
  }
}

// The same bits again, and with other numbers of threads.
TEST(SplitAttention, IsDeterministic) {
  const Row row{.s = 64, .n = 8, .sink = true, .dropout = true};
  const auto inputs = inputs_of(row, at::kFloat);
  in_every_exchange([&](const ProcessGroupPtr& cp, Exchange exchange) {
    const auto once = test::run(split_over(cp, row, exchange), inputs);
    const auto again = test::run(split_over(cp, row, exchange), inputs);
    test::expect_identical(again.value, once.value);
    for (size_t i = 0; i < once.gradients.size(); ++i)
      test::expect_identical(again.gradients[i], once.gradients[i]);
  });
}

TEST(SplitAttention, RefusesWhatDoesNotFit) {
  run_thread_world(4, [](RankContext& rank) {
    const auto cp = rank.make_groups({.cp = 4}).cp;
    const auto part = [](int64_t s, int64_t heads) { return at::ones({s, 1, heads, 4}); };
    const SequenceSplit split{.length = 16, .size = 4};
    const auto attend = [](const auto& q, const auto&, const auto&) { return q; };
    test::expect_error(
        [&] { exchange_heads(part(4, 6), part(4, 2), part(4, 2), split, cp, attend); },
        "heads that 4 ranks share out, but got 6 and 2");
    test::expect_error(
        [&] { exchange_heads(part(4, 12), part(4, 3), part(4, 3), split, cp, attend); },
        "--cp-comm-type p2p or allgather works");
    test::expect_error(
        [&] { split_attention(part(5, 2), part(5, 2), part(5, 2), {.cp = cp, .split = split}); },
        "Expected 4 queries and keys on each of 4 ranks");
    test::expect_error(
        [&] {
          split_attention(part(4, 2), part(4, 2), part(4, 2),
                          {.cp = cp,
                           .split = split,
                           .in_full = true,
                           .mask = at::zeros({1, 1, 16, 16}, at::kBool)});
        },
        "this rank's rows");
  });
}

}  // namespace
}  // namespace megatron
