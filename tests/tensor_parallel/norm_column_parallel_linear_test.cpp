// A norm fused with a column-parallel layer, with every kind of communication, against the norm and
// the linear layer on one rank: outputs and gradients, frozen weights, main gradients.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/base/error.h"
#include "megatron/ops/norm.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/tensor_parallel/norm_column_parallel_linear_function.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

constexpr int64_t kNormLength = 8, kNormRows = 3, kNormFeatures = 24, kNormOutputs = 16;

struct NormSetting {
  const char* name;
  int tp;
  bool sequence_parallel = false, tp_comm_overlap = false;
  bool rms = false, zero_centered = false, bias = true, returns_normed = false;
  bool main_grad = false, frozen = false, wide_input = false;
  at::ScalarType dtype = at::kDouble;
  friend void PrintTo(const NormSetting& setting, std::ostream* out) { *out << setting.name; }
};

const NormSetting kNormSettings[] = {
    {.name = "one_rank", .tp = 1},
    {.name = "one_rank_rms", .tp = 1, .rms = true, .bias = false},
    {.name = "one_rank_returns_normed", .tp = 1, .returns_normed = true},
    {.name = "tp2", .tp = 2},
    {.name = "tp2_rms_zero_centered", .tp = 2, .rms = true, .zero_centered = true},
    {.name = "tp2_returns_normed", .tp = 2, .returns_normed = true},
    {.name = "tp2_main_grad", .tp = 2, .main_grad = true},
    {.name = "tp2_frozen", .tp = 2, .frozen = true},
    {.name = "tp2_sp", .tp = 2, .sequence_parallel = true},
    {.name = "tp2_sp_zero_centered", .tp = 2, .sequence_parallel = true, .zero_centered = true},
    {.name = "tp2_sp_rms_without_bias",
     .tp = 2,
     .sequence_parallel = true,
     .rms = true,
     .bias = false},
    {.name = "tp2_sp_returns_normed", .tp = 2, .sequence_parallel = true, .returns_normed = true},
    {.name = "tp2_sp_main_grad", .tp = 2, .sequence_parallel = true, .main_grad = true},
    {.name = "tp2_sp_frozen", .tp = 2, .sequence_parallel = true, .frozen = true},
    {.name = "tp2_sp_overlap", .tp = 2, .sequence_parallel = true, .tp_comm_overlap = true},
    {.name = "tp4_sp_overlap_main_grad",
     .tp = 4,
     .sequence_parallel = true,
     .tp_comm_overlap = true,
     .main_grad = true},
    {.name = "tp2_sp_bf16_wide_input",
     .tp = 2,
     .sequence_parallel = true,
     .wide_input = true,
     .dtype = at::kBFloat16},
    {.name = "one_rank_bf16_wide_input", .tp = 1, .wide_input = true, .dtype = at::kBFloat16}};

at::Tensor norm_wave(at::IntArrayRef shape, double phase) {
  return at::sin(at::arange(c10::multiply_integers(shape), at::kDouble) * 0.7 + phase).view(shape);
}

// Global values in double, rounded to the dtype of the parameters.
struct NormValues {
  explicit NormValues(at::ScalarType dtype)
      : norm_weight(rounded(norm_wave({kNormFeatures}, 1), dtype)),
        norm_bias(rounded(norm_wave({kNormFeatures}, 2), dtype)),
        weight(rounded(norm_wave({kNormOutputs, kNormFeatures}, 3), dtype)),
        bias(rounded(norm_wave({kNormOutputs}, 4), dtype)),
        x(rounded(norm_wave({kNormLength, kNormRows, kNormFeatures}, 5), dtype)),
        grad_y(rounded(norm_wave({kNormLength, kNormRows, kNormOutputs}, 6), dtype)),
        grad_normed(rounded(norm_wave({kNormLength, kNormRows, kNormFeatures}, 7), dtype)) {}
  static at::Tensor rounded(const at::Tensor& values, at::ScalarType dtype) {
    return values.to(dtype).to(at::kDouble);
  }

  at::Tensor norm_weight, norm_bias, weight, bias, x, grad_y, grad_normed;
};

struct NormResults {
  at::Tensor y, normed, grad_x, grad_norm_weight, grad_norm_bias, grad_weight, grad_bias;
};

at::Tensor leaf_of(const at::Tensor& values) {
  return values.clone().requires_grad_();
}

NormResults unfused_results(const NormValues& values, const NormSetting& setting) {
  const at::Tensor x = leaf_of(values.x), norm_weight = leaf_of(values.norm_weight),
                   norm_bias = leaf_of(values.norm_bias), weight = leaf_of(values.weight),
                   bias = leaf_of(values.bias);
  const at::Tensor scale = setting.zero_centered ? norm_weight + 1 : norm_weight;
  const at::Tensor normed = setting.rms ? unfused::rms_norm(x, scale, 1e-5)
                                        : unfused::layer_norm(x, scale, norm_bias, 1e-5);
  const at::Tensor y = at::linear(normed, weight, setting.bias ? bias : at::Tensor());
  at::Tensor loss = (y * values.grad_y).sum();
  if (setting.returns_normed) loss = loss + (normed * values.grad_normed).sum();
  loss.backward();
  return {y, normed, x.grad(), norm_weight.grad(), norm_bias.grad(), weight.grad(), bias.grad()};
}

double norm_bound(const NormSetting& setting) {
  return setting.dtype == at::kDouble ? 1e-11 : 4e-2;
}

void expect_same(const at::Tensor& got, const at::Tensor& want, const NormSetting& setting,
                 const char* what) {
  ASSERT_TRUE(got.defined()) << what;
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  const at::Tensor a = got.detach().to(at::kDouble), b = want.detach();
  EXPECT_LE((a - b).abs().max().item<double>(),
            norm_bound(setting) * (1 + b.abs().max().item<double>()))
      << what;
}

class NormColumnParallel : public testing::TestWithParam<NormSetting> {};

TEST_P(NormColumnParallel, EqualsNormAndLinearOnOneRank) {
  const NormSetting& setting = GetParam();
  const NormValues values(setting.dtype);
  const NormResults want = unfused_results(values, setting);
  run_thread_world(setting.tp, [&](RankContext& rank) {
    const ProcessGroupPtr group = rank.make_groups({.tp = setting.tp}).tp;
    const ProcessGroup& tp = *group;
    const int64_t outputs_p = kNormOutputs / setting.tp, length_p = kNormLength / setting.tp;
    const auto in_dtype = [&](const at::Tensor& tensor) { return tensor.to(setting.dtype); };
    const auto columns = [&](const at::Tensor& tensor, int64_t dim) {
      return tensor.narrow(dim, rank.rank * outputs_p, outputs_p).contiguous();
    };
    const auto rows = [&](const at::Tensor& tensor) {
      return setting.sequence_parallel ? tensor.narrow(0, rank.rank * length_p, length_p) : tensor;
    };
    Parameter weight({outputs_p, kNormFeatures}, at::TensorOptions(setting.dtype), {}, {});
    weight.data = leaf_of(in_dtype(columns(values.weight, 0)));
    weight.data.requires_grad_(!setting.frozen);
    if (setting.main_grad)
      weight.main_grad = at::ones({outputs_p, kNormFeatures}, at::TensorOptions(at::kDouble));
    const at::Tensor norm_weight = leaf_of(in_dtype(values.norm_weight)),
                     norm_bias = setting.rms ? at::Tensor() : leaf_of(in_dtype(values.norm_bias)),
                     bias =
                         setting.bias ? leaf_of(in_dtype(columns(values.bias, 0))) : at::Tensor();
    const at::Tensor x =
        leaf_of(rows(values.x).to(setting.wide_input ? at::kFloat : setting.dtype));
    const NormColumnParallelOutput output = norm_column_parallel_linear(
        x, norm_weight, norm_bias, weight, bias,
        {.rms = setting.rms, .epsilon = 1e-5, .zero_centered = setting.zero_centered},
        {.tp = &tp,
         .sequence_parallel = setting.sequence_parallel,
         .tp_comm_overlap = setting.tp_comm_overlap},
        setting.returns_normed);
    expect_same(output.output, columns(want.y, 2), setting, "output");
    EXPECT_EQ(output.output.scalar_type(), setting.dtype);
    EXPECT_EQ(output.normed.defined(), setting.returns_normed);
    at::Tensor loss = (output.output * in_dtype(columns(values.grad_y, 2))).sum();
    if (setting.returns_normed) {
      expect_same(output.normed, rows(want.normed), setting, "normed");
      // Without sequence parallelism every rank holds the full gradient of the residual path.
      loss = loss + (output.normed * in_dtype(rows(values.grad_normed))).sum();
    }
    loss.backward();
    const auto summed = [&](at::Tensor gradient) {
      if (setting.sequence_parallel) tp.all_reduce(gradient);
      return gradient;
    };
    expect_same(x.grad(), rows(want.grad_x), setting, "x");
    EXPECT_EQ(x.grad().scalar_type(), x.scalar_type());
    expect_same(summed(norm_weight.grad()), want.grad_norm_weight, setting, "norm weight");
    if (!setting.rms)
      expect_same(summed(norm_bias.grad()), want.grad_norm_bias, setting, "norm bias");
    if (setting.bias) expect_same(bias.grad(), columns(want.grad_bias, 0), setting, "bias");
    if (setting.frozen) {
      EXPECT_FALSE(weight.data.grad().defined());
    } else if (setting.main_grad) {
      EXPECT_FALSE(weight.data.grad().defined());
      expect_same(weight.main_grad - 1, columns(want.grad_weight, 0), setting, "main gradient");
    } else {
      expect_same(weight.data.grad(), columns(want.grad_weight, 0), setting, "weight");
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Settings, NormColumnParallel, testing::ValuesIn(kNormSettings),
                         [](const auto& info) { return std::string(info.param.name); });

// Deferred weight gradients are those of an ordinary backward pass.
TEST(NormColumnParallelDeferral, AddsTheWeightGradientLater) {
  const NormValues values(at::kDouble);
  const NormResults want = unfused_results(values, {.name = "", .tp = 1});
  run_thread_world(2, [&](RankContext& rank) {
    const ProcessGroupPtr tp = rank.make_groups({.tp = 2}).tp;
    for (const bool sequence_parallel : {false, true}) {
      const int64_t outputs_p = kNormOutputs / 2, length_p = kNormLength / 2;
      Parameter weight({outputs_p, kNormFeatures}, at::TensorOptions(at::kDouble), {}, {});
      weight.data = leaf_of(values.weight.narrow(0, rank.rank * outputs_p, outputs_p));
      weight.main_grad = at::zeros_like(weight.data);
      DeferredWeightGradients deferred(/*limit=*/0);
      const at::Tensor x = leaf_of(
          sequence_parallel ? values.x.narrow(0, rank.rank * length_p, length_p) : values.x);
      const at::Tensor y =
          norm_column_parallel_linear(
              x, values.norm_weight, values.norm_bias, weight, {}, {},
              {.tp = tp.get(), .sequence_parallel = sequence_parallel, .deferred = &deferred},
              /*returns_normed=*/false)
              .output;
      (y * values.grad_y.narrow(2, rank.rank * outputs_p, outputs_p)).sum().backward();
      EXPECT_EQ(deferred.pending(), 1);
      EXPECT_EQ(weight.main_grad.abs().max().item<double>(), 0);
      deferred.compute();
      expect_same(weight.main_grad, want.grad_weight.narrow(0, rank.rank * outputs_p, outputs_p),
                  {.name = "", .tp = 1}, "deferred");
    }
  });
}

TEST(NormColumnParallelArguments, AreChecked) {
  run_thread_world(2, [](RankContext& rank) {
    const ProcessGroupPtr tp = rank.make_groups({.tp = 2}).tp;
    Parameter weight({4, 5}, at::TensorOptions(at::kDouble), {}, {});
    const at::Tensor norm = at::ones({6}, at::kDouble);
    EXPECT_THROW(norm_column_parallel_linear(at::ones({2, 1, 6}, at::kDouble), norm, norm, weight,
                                             {}, {}, {.tp = tp.get()}, false),
                 Error);
  });
}

}  // namespace
}  // namespace megatron
