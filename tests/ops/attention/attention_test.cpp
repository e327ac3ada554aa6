#include "megatron/ops/attention/attention.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

using Options = AttentionOptions;

constexpr double kScale = 0.3;

Operator core(bool plain, Options options) {
  options.scale = kScale;
  return [plain, options](const std::vector<at::Tensor>& in) {
    Options given = options;
    if (in.size() > 3) given.softmax_offset = in[3];
    return plain ? reference::core_attention(in[0], in[1], in[2], given)
                 : core_attention(in[0], in[1], in[2], given);
  };
}

std::vector<at::Tensor> qkv(int64_t sq, int64_t sk, int64_t b, int64_t n, int64_t g, int64_t d,
                            at::ScalarType dtype) {
  return {random_tensor({sq, b, n, d}, dtype, 1), random_tensor({sk, b, g, d}, dtype, 2),
          random_tensor({sk, b, g, d}, dtype, 3)};
}

at::Tensor random_mask(int64_t b, int64_t sq, int64_t sk) {
  return at::randint(2, {b, 1, sq, sk}, at::detail::createCPUGenerator(4),
                     at::TensorOptions(at::kLong))
      .to(at::kBool);
}

AttentionDropout dropout_plan(int64_t b, int64_t sq, int64_t first = 0) {
  return {
      .p = 0.3,
      .key = {.seed = 99, .layer = 3, .site = 1},
      .queries = {at::arange(500, 500 + b, at::kLong), at::arange(first, first + sq, at::kLong)},
      .head_offset = 4};
}

TEST(CoreAttention, MatchesTheReference) {
  const auto plan = dropout_plan(2, 19);
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const double bound = dtype == at::kBFloat16 ? 3e-2 : 3 * tolerance(dtype);
    const auto square = qkv(19, 19, 2, 4, 2, 8, dtype);
    const at::Tensor mask = random_mask(2, 19, 19);
    const at::Tensor shared = random_mask(1, 19, 19);
    for (const Options& o : {Options{.mask = {.causal = false}}, Options{},
                             Options{.mask = {.causal = false, .masked = mask}},
                             Options{.mask = {.causal = false, .masked = shared}},
                             Options{.mask = {.masked = mask}}, Options{.dropout = plan},
                             Options{.mask = {.causal = false, .masked = mask}, .dropout = plan}}) {
      expect_like_reference(core(false, o), core(true, o), square, bound,
                            fmt::format("masked {} causal {} dropout {}", o.mask.masked.defined(),
                                        o.mask.causal, o.dropout.p > 0));
    }
    const Options cached{.mask = {.query_offset = 37}};
    expect_like_reference(core(false, cached), core(true, cached), qkv(3, 40, 2, 4, 4, 8, dtype),
                          bound, "cached keys");
  }
}

TEST(CoreAttention, WindowsAndSinksMatchTheReference) {
  const auto plan = dropout_plan(2, 19);
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const double bound = dtype == at::kBFloat16 ? 3e-2 : 3 * tolerance(dtype);
    auto inputs = qkv(19, 19, 2, 4, 2, 8, dtype);
    const at::Tensor mask = random_mask(2, 19, 19);
    for (const bool sink : {false, true}) {
      if (sink) inputs.push_back(random_tensor({4}, dtype, 5));
      for (const Options& o :
           {Options{}, Options{.mask = {.window = AttentionWindow{3, 0}}},
            Options{.mask = {.causal = false, .window = AttentionWindow{2, 5}}, .dropout = plan},
            Options{.mask = {.causal = false, .window = AttentionWindow{-1, 4}, .masked = mask}},
            Options{
                .mask = {.causal = false, .window = AttentionWindow{3, 0}, .query_offset = 30}}}) {
        const AttentionWindow window = o.mask.window.value_or(AttentionWindow{});
        expect_like_reference(core(false, o), core(true, o), inputs, bound,
                              fmt::format("window {} {} causal {} sink {}", window.left,
                                          window.right, o.mask.causal, sink));
      }
    }
  }
}

TEST(CausalAttention, MatchesTheReference) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const double bound = dtype == at::kBFloat16 ? 3e-2 : 3 * tolerance(dtype);
    for (const int64_t groups : {4, 2, 1}) {
      expect_like_reference(
          [](const auto& in) { return causal_attention(in[0], in[1], in[2], 0.3); }, core(true, {}),
          qkv(45, 45, 2, 4, groups, 16, dtype), bound, fmt::format("{} groups", groups));
    }
  }
}

// The cap applies to the scaled scores, before bias and mask.
TEST(CoreAttention, CapsScores) {
  const auto in = qkv(5, 5, 1, 1, 1, 8, at::kDouble);
  const at::Tensor mask = random_mask(1, 5, 5), bias = random_tensor({1, 1, 5, 5}, at::kDouble, 9);
  const auto matrix = [](const at::Tensor& x) { return x.view({5, 8}); };
  const at::Tensor scores = at::tanh(at::mm(matrix(in[0]), matrix(in[1]).t()) * kScale / 0.6) * 0.6;
  const at::Tensor masked = (scores + bias).masked_fill(mask, -10000.0);
  const at::Tensor want = at::mm(at::softmax(masked[0][0], -1), matrix(in[2]));
  const Options options{.soft_cap = 0.6, .mask = {.causal = false, .masked = mask}, .bias = bias};
  for (const bool plain : {false, true}) {
    expect_close(core(plain, options)(in).view({5, 8}), want, 1e-12);
  }
  expect_error([&] { core(false, {.softmax_coefficient = 2, .soft_cap = 0.6})(in); },
               "softmax coefficient of 1 with a soft cap");
}

TEST(CoreAttention, GradientsMatchFiniteDifferences) {
  const auto plan = dropout_plan(1, 4);
  const auto inputs = qkv(4, 4, 1, 2, 1, 3, at::kDouble);
  expect_gradients_by_differences(core(false, {.soft_cap = 0.4, .dropout = plan}), inputs);
  expect_gradients_by_differences(core(false, {.dropout = plan}), inputs);
  expect_gradients_by_differences(
      core(false, {.mask = {.causal = false, .masked = random_mask(1, 4, 4)}}), inputs);
  auto with_sink = inputs;
  with_sink.push_back(random_tensor({2}, at::kDouble, 5));
  expect_gradients_by_differences(
      core(false, {.mask = {.causal = false, .window = AttentionWindow{1, 1}}}), with_sink);
  expect_gradients_by_differences(
      [](const auto& in) { return causal_attention(in[0], in[1], in[2], 0.3); }, inputs);
}

TEST(CoreAttention, FullyMaskedRowAttendsToAllKeysEqually) {
  const auto in = qkv(3, 5, 1, 2, 2, 4, at::kFloat);
  at::Tensor mask = at::zeros({1, 1, 3, 5}, at::kBool);
  mask[0][0][1] = true;
  const at::Tensor out =
      core_attention(in[0], in[1], in[2], {.mask = {.causal = false, .masked = mask}});
  expect_close(out[1], in[2].mean(0).reshape({1, 8}), 1e-6);
}

TEST(CoreAttention, SlicesOfQueriesAndHeadsEqualTheFullResult) {
  const auto in = qkv(12, 12, 2, 4, 2, 8, at::kDouble);
  const auto plan = dropout_plan(2, 12);
  const at::Tensor full = core_attention(in[0], in[1], in[2], {.scale = kScale, .dropout = plan});
  const auto late = dropout_plan(2, 5, /*first=*/7);
  const at::Tensor slice =
      core_attention(in[0].narrow(0, 7, 5), in[1], in[2],
                     {.scale = kScale, .mask = {.query_offset = 7}, .dropout = late});
  expect_close(slice, full.narrow(0, 7, 5), 1e-13);
  // Tensor parallelism shards the heads: query heads 2 and 3 share the second key-value head.
  auto heads = plan;
  heads.head_offset += 2;
  const at::Tensor second =
      core_attention(in[0].narrow(2, 2, 2), in[1].narrow(2, 1, 1), in[2].narrow(2, 1, 1),
                     {.scale = kScale, .dropout = heads});
  expect_close(second, full.narrow(2, 16, 16), 1e-13);
}

// A packed sequence does not see the others.
TEST(CoreAttention, PackedSequencesMatchTheReference) {
  const at::Tensor starts = at::tensor({0, 4, 5, 19}, at::kLong);
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const auto inputs = qkv(19, 19, 1, 4, 2, 8, dtype);
    const Options packed{.mask = {.cu_seqlens_q = starts}};
    expect_like_reference(core(false, packed), core(true, packed), inputs,
                          dtype == at::kBFloat16 ? 3e-2 : 3 * tolerance(dtype), "packed");
    const at::Tensor out = core(false, packed)(inputs);
    const auto last = [](const at::Tensor& x) { return x.narrow(0, 5, 14); };
    expect_close(last(out), core(false, {})({last(inputs[0]), last(inputs[1]), last(inputs[2])}),
                 dtype == at::kBFloat16 ? 3e-2 : 3 * tolerance(dtype), "last sequence alone");
  }
}

TEST(CoreAttention, AcceptsAnEmptyBatch) {
  const auto in = qkv(3, 3, 0, 2, 2, 4, at::kFloat);
  EXPECT_EQ(core_attention(in[0], in[1], in[2], {}).sizes(), (std::vector<int64_t>{3, 0, 8}));
  EXPECT_EQ(causal_attention(in[0], in[1], in[2], 1).sizes(), (std::vector<int64_t>{3, 0, 8}));
}

TEST(CoreAttention, RefusesInvalidArguments) {
  const auto in = qkv(3, 5, 1, 4, 2, 8, at::kFloat);
  expect_error([&] { causal_attention(in[0], in[1], in[2], 1); }, "as many keys as queries");
  expect_error([&] { core_attention(in[0].narrow(2, 0, 3), in[1], in[2], {}); },
               "multiple of the key-value heads, but got 3 and 2");
  expect_error([&] { core_attention(in[0].narrow(3, 0, 3), in[1], in[2], {}); }, "that agree");
  expect_error(
      [&] {
        core_attention(in[0], in[1], in[2],
                       {.mask = {.masked = at::zeros({1, 1, 3, 3}, at::kBool)}});
      },
      "Expected a mask of shape [1 or 1, 1, 3, 5]");
  expect_error(
      [&] {
        core_attention(in[0], in[1], in[2], {.mask = {.masked = at::zeros({1, 1, 3, 5})}});
      },
      "dtype bool");
  expect_error([&] { core_attention(in[0], in[1], in[2], {.mask = {.query_offset = -1}}); },
               "query_offset of at least 0");
}

}  // namespace
}  // namespace megatron::test
