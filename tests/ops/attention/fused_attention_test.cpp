#include "megatron/ops/attention/fused_attention.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

// Sizes of one case; sk 0 means sq, dv 0 means d.
struct Sizes {
  int64_t sq, b, n, g, d, sk = 0, dv = 0;
};

std::vector<at::Tensor> inputs_of(const Sizes& s, at::ScalarType dtype) {
  const int64_t sk = s.sk == 0 ? s.sq : s.sk, dv = s.dv == 0 ? s.d : s.dv;
  return {random_tensor({s.sq, s.b, s.n, s.d}, dtype, 1),
          random_tensor({sk, s.b, s.g, s.d}, dtype, 2),
          random_tensor({sk, s.b, s.g, dv}, dtype, 3)};
}

std::vector<at::Tensor> with_sink(std::vector<at::Tensor> inputs, bool zeros = false) {
  const at::Tensor sink = random_tensor({inputs[0].size(2)}, inputs[0].scalar_type(), 7);
  inputs.push_back(zeros ? at::zeros_like(sink) : sink);
  return inputs;
}

// Inputs: q, k, v and optionally the sink.
Operator fused(AttentionOptions options) {
  return [=](const std::vector<at::Tensor>& in) mutable {
    if (in.size() > 3) options.softmax_offset = in[3];
    return fused_attention(in[0], in[1], in[2], options);
  };
}

// In fp64, rounded at the end, so that the bounds cover only the kernels' rounding.
Operator oracle(AttentionOptions options) {
  return [=](const std::vector<at::Tensor>& in) mutable {
    const auto wide = [&](size_t i) { return in[i].to(at::kDouble); };
    if (in.size() > 3) options.softmax_offset = wide(3);
    return reference::fused_attention(wide(0), wide(1), wide(2), options).to(in[0].scalar_type());
  };
}

double bound_of(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? 1.2e-2 : dtype == at::kFloat ? 2e-6 : 1e-13;
}

void expect_like_oracle(const AttentionOptions& options, const std::vector<at::Tensor>& inputs,
                        const std::string& what) {
  const auto dtype = inputs[0].scalar_type();
  expect_like_reference(fused(options), oracle(options), inputs, bound_of(dtype),
                        fmt::format("{} {}", what, c10::toString(dtype)));
}

const std::vector<at::ScalarType> kKernelDtypes = {at::kFloat, at::kBFloat16, at::kDouble};

at::Tensor starts(std::vector<int64_t> list) {
  return at::tensor(list, at::kLong);
}

AttentionDropout fused_attention_dropout(int64_t b, int64_t sq, int64_t first = 0) {
  return {
      .p = 0.3,
      .key = {.seed = 99, .layer = 3, .site = 1},
      .queries = {at::arange(500, 500 + b, at::kLong), at::arange(first, first + sq, at::kLong)},
      .head_offset = 4};
}

TEST(FusedAttention, MatchesTheOracle) {
  for (const auto dtype : kKernelDtypes) {
    for (const Sizes& s : {Sizes{1, 2, 2, 2, 16}, Sizes{7, 2, 4, 2, 8}, Sizes{33, 1, 4, 1, 64},
                           Sizes{130, 1, 2, 2, 20}, Sizes{300, 1, 3, 1, 32}}) {
      for (const bool causal : {true, false}) {
        expect_like_oracle({.scale = 0.3, .mask = {.causal = causal}}, inputs_of(s, dtype),
                           fmt::format("s {} causal {}", s.sq, causal));
      }
    }
  }
}

TEST(FusedAttention, AcceptsValuesOfAnotherWidth) {
  for (const auto dtype : kKernelDtypes) {
    expect_like_oracle({.scale = 0.2},
                       inputs_of({.sq = 70, .b = 2, .n = 2, .g = 1, .d = 24, .dv = 17}, dtype),
                       "dv 17");
    expect_like_oracle({.scale = 0.2},
                       inputs_of({.sq = 9, .b = 1, .n = 2, .g = 2, .d = 5, .dv = 40}, dtype),
                       "dv 40");
  }
}

TEST(FusedAttention, AcceptsCachedKeysAndDifferentLengths) {
  for (const auto dtype : kKernelDtypes) {
    const auto decode = inputs_of({.sq = 1, .b = 2, .n = 4, .g = 2, .d = 16, .sk = 150}, dtype);
    expect_like_oracle({.scale = 0.3, .mask = {.query_offset = 149}}, decode, "decode");
    expect_like_oracle({.scale = 0.3, .mask = {.query_offset = 99}}, decode, "decode, early");
    const auto chunk = inputs_of({.sq = 70, .b = 1, .n = 2, .g = 2, .d = 16, .sk = 200}, dtype);
    expect_like_oracle({.scale = 0.3, .mask = {.query_offset = 130}}, chunk, "chunked prefill");
    expect_like_oracle({.scale = 0.3, .mask = {.causal = false}}, chunk, "cross");
    // More queries than keys; and none.
    expect_like_oracle({.scale = 0.3},
                       inputs_of({.sq = 40, .b = 1, .n = 2, .g = 2, .d = 16, .sk = 7}, dtype),
                       "few keys");
  }
}

TEST(FusedAttention, AppliesWindows) {
  for (const auto dtype : kKernelDtypes) {
    const auto inputs = inputs_of({.sq = 200, .b = 1, .n = 2, .g = 1, .d = 16}, dtype);
    for (const AttentionWindow& window :
         {AttentionWindow{0, 0}, AttentionWindow{3, 0}, AttentionWindow{130, -1},
          AttentionWindow{5, 9}, AttentionWindow{-1, 70}}) {
      for (const bool causal : {true, false}) {
        expect_like_oracle(
            {.scale = 0.3, .mask = {.causal = causal, .window = window}}, inputs,
            fmt::format("window {} {} causal {}", window.left, window.right, causal));
      }
    }
    const auto cached = inputs_of({.sq = 5, .b = 2, .n = 2, .g = 1, .d = 16, .sk = 300}, dtype);
    expect_like_oracle(
        {.scale = 0.3, .mask = {.window = AttentionWindow{20, 0}, .query_offset = 295}}, cached,
        "cached");
  }
}

TEST(FusedAttention, QueriesWithoutKeysGiveZeros) {
  // From query 12 on, all 8 keys are outside the window.
  const AttentionOptions options{.scale = 0.3, .mask = {.window = AttentionWindow{4, 0}}};
  for (const auto dtype : kKernelDtypes) {
    const auto inputs = inputs_of({.sq = 20, .b = 1, .n = 2, .g = 2, .d = 16, .sk = 8}, dtype);
    expect_like_oracle(options, inputs, "beyond the window");
    expect_like_oracle(options, with_sink(inputs), "beyond the window, sink");
    const auto got = run(fused(options), inputs);
    EXPECT_TRUE(at::equal(got.value.narrow(0, 12, 8), at::zeros({8, 1, 32}, got.value.options())));
    EXPECT_TRUE(at::equal(got.gradients[0].narrow(0, 12, 8),
                          at::zeros({8, 1, 2, 16}, got.value.options())));
  }
}

TEST(FusedAttention, AppliesSinks) {
  for (const auto dtype : kKernelDtypes) {
    const auto inputs = inputs_of({.sq = 140, .b = 2, .n = 4, .g = 2, .d = 16}, dtype);
    expect_like_oracle({.scale = 0.3}, with_sink(inputs), "learnable");
    expect_like_oracle({.scale = 0.3}, with_sink(inputs, /*zeros=*/true), "off by one");
    expect_like_oracle(
        {.scale = 0.3,
         .mask = {.window = AttentionWindow{9, 0}, .cu_seqlens_q = starts({0, 60, 140})}},
        with_sink(inputs_of({.sq = 140, .b = 1, .n = 4, .g = 2, .d = 16}, dtype)), "packed");
  }
}

TEST(FusedAttention, PackedSequencesEqualSeparateOnes) {
  const std::vector<int64_t> ends = {0, 1, 8, 138, 180, 313};
  for (const auto dtype : kKernelDtypes) {
    const auto inputs = inputs_of({.sq = 313, .b = 1, .n = 4, .g = 2, .d = 16}, dtype);
    for (const bool causal : {true, false}) {
      AttentionOptions options{.scale = 0.3, .mask = {.causal = causal}};
      const at::Tensor cotangent = random_tensor({313, 1, 64}, dtype, 12345);
      options.mask.cu_seqlens_q = starts(ends).to(at::kInt);
      const auto packed = run(fused(options), inputs);
      expect_like_oracle(options, inputs, "packed");
      options.mask.cu_seqlens_q.reset();
      for (size_t i = 0; i + 1 < ends.size(); ++i) {
        const int64_t first = ends[i], count = ends[i + 1] - ends[i];
        std::vector<at::Tensor> leaves;
        for (const at::Tensor& x : inputs) {
          leaves.push_back(x.narrow(0, first, count).detach().requires_grad_());
        }
        const at::Tensor value = fused(options)(leaves);
        const auto gradients =
            torch::autograd::grad({value}, leaves, {cotangent.narrow(0, first, count)});
        expect_identical(value, packed.value.narrow(0, first, count), "value");
        for (size_t j = 0; j < 3; ++j) {
          expect_close(gradients[j], packed.gradients[j].narrow(0, first, count), bound_of(dtype),
                       fmt::format("gradient {}", j));
        }
      }
    }
  }
}

TEST(FusedAttention, PackedQueriesAndKeysMayDifferInLength) {
  const auto inputs =
      inputs_of({.sq = 100, .b = 1, .n = 2, .g = 1, .d = 16, .sk = 150}, at::kFloat);
  AttentionOptions options{.scale = 0.3, .mask = {.causal = false}};
  options.mask.cu_seqlens_q = starts({0, 70, 100});
  options.mask.cu_seqlens_k = starts({0, 10, 150});
  expect_like_oracle(options, inputs, "cross");
}

TEST(FusedAttention, DropoutMasksEqualThoseOfCoreAttention) {
  for (const auto dtype : kKernelDtypes) {
    const auto inputs = inputs_of({.sq = 150, .b = 2, .n = 4, .g = 2, .d = 16}, dtype);
    const auto plan = fused_attention_dropout(2, 150);
    expect_like_oracle({.scale = 0.3, .dropout = plan}, inputs, "dropout");
    expect_like_reference(
        fused({.scale = 0.3, .dropout = plan}),
        [&](const auto& in) {
          return core_attention(in[0], in[1], in[2], {.scale = 0.3, .dropout = plan});
        },
        inputs, dtype == at::kBFloat16 ? 3e-2 : 3 * tolerance(dtype), "core_attention");
    // With packed sequences the columns of the dropout mask are the rows of k.
    const auto alone = inputs_of({.sq = 150, .b = 1, .n = 2, .g = 2, .d = 16}, dtype);
    expect_like_oracle({.scale = 0.3,
                        .mask = {.cu_seqlens_q = starts({0, 37, 150})},
                        .dropout = fused_attention_dropout(1, 150)},
                       with_sink(alone), "packed");
  }
}

TEST(FusedAttention, CapsScores) {
  for (const auto dtype : kKernelDtypes) {
    const auto inputs = inputs_of({.sq = 140, .b = 2, .n = 4, .g = 2, .d = 16}, dtype);
    // Scores have a standard deviation of 2: far below, near and far above the cap.
    for (const double cap : {50.0, 2.0, 0.1}) {
      expect_like_oracle({.scale = 0.5, .soft_cap = cap}, inputs, fmt::format("cap {}", cap));
    }
    expect_like_oracle({.scale = 0.5,
                        .soft_cap = 1.5,
                        .mask = {.window = AttentionWindow{9, 0}},
                        .dropout = fused_attention_dropout(2, 140)},
                       with_sink(inputs), "window, sink and dropout");
    expect_like_oracle({.scale = 0.5, .soft_cap = 1.5, .mask = {.query_offset = 149}},
                       inputs_of({.sq = 1, .b = 2, .n = 4, .g = 2, .d = 16, .sk = 150}, dtype),
                       "decode");
  }
  // A large cap changes nothing but rounding.
  const auto inputs = inputs_of({.sq = 70, .b = 1, .n = 2, .g = 2, .d = 16}, at::kDouble);
  expect_close(fused({.scale = 0.5, .soft_cap = 1e9})(inputs), fused({.scale = 0.5})(inputs),
               1e-12);
}

TEST(FusedAttention, GradientsMatchFiniteDifferences) {
  const auto inputs =
      with_sink(inputs_of({.sq = 4, .b = 1, .n = 2, .g = 1, .d = 3, .dv = 2}, at::kDouble));
  expect_gradients_by_differences(fused({.scale = 1.3, .soft_cap = 0.8}), inputs);
  expect_gradients_by_differences(fused({.scale = 0.3}), inputs);
  expect_gradients_by_differences(fused({.scale = 0.3, .mask = {.causal = false}}), inputs);
  expect_gradients_by_differences(fused({.scale = 0.3, .dropout = fused_attention_dropout(1, 4)}),
                                  inputs);
  expect_gradients_by_differences(
      fused({.scale = 0.3,
             .mask = {.window = AttentionWindow{1, 0}, .cu_seqlens_q = starts({0, 1, 4})}}),
      inputs);
  const auto cached = inputs_of({.sq = 2, .b = 1, .n = 2, .g = 2, .d = 3, .sk = 5}, at::kDouble);
  expect_gradients_by_differences(fused({.scale = 0.3, .mask = {.query_offset = 2}}), cached);
}

TEST(FusedAttention, AcceptsViewsOfTheQkvProjection) {
  const int64_t s = 70, b = 2, n = 4, g = 2, d = 16;
  for (const auto dtype : kKernelDtypes) {
    const at::Tensor mixed = random_tensor({s, b, n + 2 * g, d}, dtype, 1);
    const auto split = [&](const at::Tensor& x) {
      return std::vector<at::Tensor>{x.narrow(2, 0, n), x.narrow(2, n, g), x.narrow(2, n + g, g)};
    };
    const auto op = [&](const std::vector<at::Tensor>& in) {
      return fused({.scale = 0.3})(split(in[0]));
    };
    const auto copied = [&](const std::vector<at::Tensor>& in) {
      auto parts = split(in[0]);
      for (at::Tensor& x : parts) x = x.clone(at::MemoryFormat::Contiguous);
      return fused({.scale = 0.3})(parts);
    };
    const auto got = run(op, {mixed}), want = run(copied, {mixed});
    expect_identical(got.value, want.value);
    expect_identical(got.gradients[0], want.gradients[0]);
    // Rows that are not contiguous are copied.
    auto inputs = inputs_of({s, b, n, g, d}, dtype);
    const auto contiguous = run(fused({.scale = 0.3}), inputs);
    for (at::Tensor& x : inputs) x = x.transpose(0, 3).contiguous().transpose(0, 3);
    expect_identical(run(fused({.scale = 0.3}), inputs).value, contiguous.value);
  }
}

TEST(FusedAttention, MatchesTheOracleWithoutOneDnn) {
  at::globalContext().setUserEnabledMkldnn(false);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    expect_like_oracle({.scale = 0.3},
                       inputs_of({.sq = 150, .b = 1, .n = 4, .g = 2, .d = 20}, dtype),
                       "plain loops");
  }
  at::globalContext().setUserEnabledMkldnn(true);
}

TEST(FusedAttention, Fp16RunsUnfused) {
  const auto inputs = inputs_of({.sq = 20, .b = 1, .n = 4, .g = 2, .d = 8}, at::kHalf);
  AttentionOptions options{
      .scale = 0.3, .mask = {.window = AttentionWindow{5, 0}, .cu_seqlens_q = starts({0, 7, 20})}};
  expect_like_reference(fused(options), oracle(options), inputs, 1.2e-2, "fp16");
  options.soft_cap = 0.5;
  expect_like_reference(fused(options), oracle(options), inputs, 1.2e-2, "fp16, capped");
}

TEST(FusedAttention, AcceptsEmptyInputs) {
  const auto none = inputs_of({.sq = 3, .b = 0, .n = 2, .g = 2, .d = 4}, at::kFloat);
  EXPECT_EQ(fused({})(none).sizes(), (std::vector<int64_t>{3, 0, 8}));
  auto no_keys = inputs_of({.sq = 3, .b = 1, .n = 2, .g = 2, .d = 4}, at::kFloat);
  for (int i = 1; i < 3; ++i) no_keys[i] = no_keys[i].narrow(0, 0, 0);
  expect_identical(run(fused({}), no_keys).value, at::zeros({3, 1, 8}));
}

TEST(FusedAttention, RefusesInvalidArguments) {
  const auto in = inputs_of({.sq = 6, .b = 1, .n = 4, .g = 2, .d = 8}, at::kFloat);
  const auto expect = [&](const AttentionOptions& options, const std::string& text) {
    expect_error([&] { fused_attention(in[0], in[1], in[2], options); }, text);
  };
  expect_error([&] { fused_attention(in[0].narrow(2, 0, 3), in[1], in[2], {}); },
               "multiple of the key-value heads, but got 3 and 2");
  expect_error([&] { fused_attention(in[0], in[1].to(at::kBFloat16), in[2], {}); }, "of dtype");
  expect_error([&] { fused_attention(in[0].to(at::kLong), in[1], in[2], {}); }, "floating dtype");
  expect_error([&] { fused_attention(in[0], in[1].narrow(3, 0, 4), in[2], {}); }, "that agree");
  expect({.scale = 0}, "scale above 0");
  expect({.soft_cap = -1}, "finite soft cap of at least 0, but got -1");
  // attention_mask_test.cpp tests the other invalid masks.
  expect({.mask = {.cu_seqlens_q = starts({0, 4, 5})}},
         "fused_attention: Expected cu_seqlens_q to end at the number of tokens, 6, but got 5");
  expect({.mask = {.masked = at::zeros({1, 1, 6, 6}, at::kBool)}}, "core_attention accepts them");
  expect({.bias = at::zeros({1, 1, 6, 6})}, "core_attention accepts them");
  const at::Tensor positions = at::arange(6, at::kLong);
  expect({.mask = {.query_positions = positions, .key_positions = positions}},
         "attention_block accepts them");
  expect({.softmax_offset = at::zeros({3})}, "softmax_offset of shape [4]");
  auto plan = fused_attention_dropout(1, 6);
  plan.p = 1;
  expect({.dropout = plan}, "below 1, but got 1");
  expect({.dropout = fused_attention_dropout(1, 5)}, "positions of shape [6]");
}

}  // namespace
}  // namespace megatron::test
