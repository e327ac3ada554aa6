// The MLP as one operator: against the same block of separate operators, on one rank and over ranks
// with every kind of communication; what it keeps; and what it overlaps.
#include "megatron/tensor_parallel/fused_mlp.h"

#include <gmock/gmock.h>

#include "megatron/ops/recompute.h"

#include "tests/ops/op_test.h"
#include "tests/ops/peak_memory.h"
#include "tests/parallel/commanded_backend.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using kernels::Activation;
using test::expect_close;
using test::random_tensor;

constexpr int64_t kMlpLength = 12, kMlpRows = 2, kMlpHidden = 6, kMlpInner = 8;

struct MlpKind {
  std::string name;
  ActivationOptions activation;
  bool rms = false, bias = true;
};

std::vector<MlpKind> mlp_kinds() {
  const GluOptions plain, clamped{.clamp_value = 0.7, .linear_offset = 1};
  return {{"gelu", {Activation::gelu, {}}},
          {"gelu_tanh_rms_no_bias", {Activation::gelu_tanh, {}}, true, false},
          {"squared_relu", {Activation::squared_relu, {}}},
          {"quick_gelu", {Activation::quick_gelu, {}}, true},
          {"swiglu_rms_no_bias", {Activation::silu, plain}, true, false},
          {"swiglu", {Activation::silu, plain}},
          {"geglu", {Activation::gelu_tanh, plain}},
          {"quick_geglu_clamped", {Activation::quick_gelu, clamped}}};
}

NormLinearOptions norm_of(const MlpKind& kind) {
  return {.rms = kind.rms, .epsilon = 1e-5, .zero_centered = kind.rms};
}

// The parameters of the whole block, x and the output's gradient.
struct MlpValues {
  MlpValues(const MlpKind& kind, at::ScalarType dtype) {
    const int64_t width = (kind.activation.glu ? 2 : 1) * kMlpInner;
    x = random_tensor({kMlpLength, kMlpRows, kMlpHidden}, dtype, 1);
    norm_weight = random_tensor({kMlpHidden}, dtype, 2);
    if (!kind.rms) norm_bias = random_tensor({kMlpHidden}, dtype, 3);
    fc1_weight = random_tensor({width, kMlpHidden}, dtype, 4) * 0.5;
    if (kind.bias) fc1_bias = random_tensor({width}, dtype, 5);
    fc2_weight = random_tensor({kMlpHidden, kMlpInner}, dtype, 6) * 0.5;
    grad_y = random_tensor({kMlpLength, kMlpRows, kMlpHidden}, dtype, 12345);
  }
  std::vector<at::Tensor> inputs() const {
    return {x, norm_weight, norm_bias, fc1_weight, fc1_bias, fc2_weight};
  }
  at::Tensor x, norm_weight, norm_bias, fc1_weight, fc1_bias, fc2_weight, grad_y;
};

// The block of separate operators, of MlpValues::inputs().
test::Operator separate_mlp(const MlpKind& kind) {
  return [kind](const std::vector<at::Tensor>& in) {
    const at::Tensor normed = unfused::normalize_rows(in[0], in[1], in[2], norm_of(kind));
    const at::Tensor hidden = at::matmul(normed, in[3].t());
    return at::matmul(unfused::bias_activation(hidden, in[4], kind.activation), in[5].t());
  };
}

ParameterPtr parameter_of(const at::Tensor& data, TensorParallelSharding sharding = {}) {
  if (!data.defined()) return nullptr;
  auto parameter = std::make_shared<Parameter>(data.sizes().vec(), data.options(), sharding,
                                               Initialization::constant(0));
  parameter->data = data;
  return parameter;
}

FusedMlpParameters parameters_of(const std::vector<at::Tensor>& in) {
  return {.norm_weight = parameter_of(in[1]),
          .norm_bias = parameter_of(in[2]),
          .fc1_weight = parameter_of(in[3]),
          .fc1_bias = parameter_of(in[4]),
          .fc2_weight = parameter_of(in[5])};
}

const ProcessGroup& group_of_one() {
  static const ProcessGroup group("tp", {0}, 0, nullptr, std::chrono::seconds(1));
  return group;
}

test::Operator fused_mlp_operator(const MlpKind& kind) {
  return [kind](const std::vector<at::Tensor>& in) {
    return fused_mlp(in[0], parameters_of(in),
                     {.norm = norm_of(kind), .activation = kind.activation, .tp = &group_of_one()});
  };
}

TEST(FusedMlp, MatchesSeparateOperatorsInFp64) {
  for (const MlpKind& kind : mlp_kinds()) {
    for (const auto dtype : test::all_dtypes()) {
      const MlpValues values(kind, dtype);
      const auto got = test::run(fused_mlp_operator(kind), values.inputs());
      const auto want = test::run(test::in_fp64(separate_mlp(kind)), values.inputs());
      const bool narrow = dtype == at::kBFloat16 || dtype == at::kHalf;
      const double bound = narrow ? 8e-2 : 20 * test::tolerance(dtype);
      expect_close(got.value, want.value, bound, kind.name);
      ASSERT_EQ(got.gradients.size(), want.gradients.size());
      for (size_t i = 0; i < want.gradients.size(); ++i) {
        const double scale = 1 + want.gradients[i].abs().max().item<double>();
        expect_close(got.gradients[i] / scale, want.gradients[i] / scale, bound,
                     kind.name + ", gradient " + std::to_string(i));
      }
    }
  }
}

TEST(FusedMlp, GradientsMatchFiniteDifferences) {
  for (const MlpKind& kind : {mlp_kinds()[0], mlp_kinds()[5]}) {
    test::expect_gradients_by_differences(fused_mlp_operator(kind),
                                          MlpValues(kind, at::kDouble).inputs(), 1e-5);
  }
}

// More rows than pass through the block at once, and none.
TEST(FusedMlp, RunsInPiecesOfRows) {
  const MlpKind kind = mlp_kinds()[0];
  for (const int64_t length : {0, 1300}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      auto inputs = MlpValues(kind, dtype).inputs();
      inputs[0] = random_tensor({length, 1, kMlpHidden}, dtype, 1);
      const auto got = test::run(fused_mlp_operator(kind), inputs);
      const auto want = test::run(test::in_fp64(separate_mlp(kind)), inputs);
      const double bound = dtype == at::kFloat ? 1e-4 : 8e-2;
      expect_close(got.value, want.value, bound);
      expect_close(got.gradients[0], want.gradients[0], bound);
    }
  }
}

// Kept: the output, the output of linear_fc1 and two statistics of each row; not the normalised
// input and the activation's output, which separate operators keep.
TEST(FusedMlp, KeepsTheOutputOfFc1Only) {
  constexpr int64_t rows = 64, h = 32, f = 128;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto leaf = [&](at::IntArrayRef shape) {
      return random_tensor(shape, dtype, 1).requires_grad_();
    };
    const std::vector<at::Tensor> in = {leaf({rows, 1, h}), leaf({h}), leaf({h}),
                                        leaf({f, h}),       leaf({f}), leaf({h, f})};
    const int64_t size = c10::elementSize(dtype);
    const int64_t kept = test::kept_bytes([&] { return fused_mlp_operator(mlp_kinds()[0])(in); });
    EXPECT_LE(kept, rows * (h + f) * size + 2 * (rows * 4 + 64));
    EXPECT_GE(kept, rows * (h + f) * size);
  }
}

// Forward and backward hold at no time more than separate operators do, with the output of
// linear_fc1 freed before the gradients of the weights.
TEST(FusedMlp, PeakIsBelowThatOfSeparateOperators) {
  constexpr int64_t rows = 512, h = 64, f = 256;
  for (const size_t kind : {0, 5}) {
    const auto peak = [&](const test::Operator& block) {
      return test::peak_bytes([&] {
        const auto leaf = [](at::IntArrayRef shape) {
          return random_tensor(shape, at::kBFloat16, 1).requires_grad_();
        };
        const int64_t width = mlp_kinds()[kind].activation.glu ? 2 * f : f;
        const std::vector<at::Tensor> in = {leaf({rows, 1, h}), leaf({h}),     leaf({h}),
                                            leaf({width, h}),   leaf({width}), leaf({h, f})};
        const at::Tensor y = block(in);
        y.backward(at::ones_like(y));
      });
    };
    EXPECT_LT(peak(fused_mlp_operator(mlp_kinds()[kind])), peak(separate_mlp(mlp_kinds()[kind])))
        << mlp_kinds()[kind].name;
  }
}

TEST(FusedMlp, ARetainedGraphRunsBackwardTwice) {
  const MlpKind kind = mlp_kinds()[5];
  const MlpValues values(kind, at::kDouble);
  std::vector<at::Tensor> in = values.inputs();
  for (at::Tensor& tensor : in) tensor.requires_grad_();
  const at::Tensor y = fused_mlp_operator(kind)(in);
  y.backward(values.grad_y, /*retain_graph=*/true);
  const at::Tensor once = in[3].grad().clone();
  y.backward(values.grad_y);
  EXPECT_TRUE(at::equal(in[3].grad(), 2 * once));
}

TEST(FusedMlp, AccumulatesIntoMainGradsAndSkipsFrozenWeights) {
  const MlpKind kind = mlp_kinds()[0];
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const MlpValues values(kind, dtype);
    const auto want = test::run(test::in_fp64(separate_mlp(kind)), values.inputs());
    for (const bool frozen : {false, true}) {
      std::vector<at::Tensor> leaves = values.inputs();
      for (at::Tensor& leaf : leaves) leaf = leaf.detach().clone().requires_grad_();
      if (frozen) leaves[3].requires_grad_(false);
      const FusedMlpParameters parameters = parameters_of(leaves);
      parameters.fc1_weight->main_grad = at::ones(leaves[3].sizes());
      parameters.fc2_weight->main_grad = at::ones(leaves[5].sizes());
      const at::Tensor y =
          fused_mlp(leaves[0], parameters,
                    {.norm = norm_of(kind), .activation = kind.activation, .tp = &group_of_one()});
      torch::autograd::backward({y}, {values.grad_y});
      const double bound = dtype == at::kFloat ? 1e-4 : 2e-1;
      EXPECT_FALSE(leaves[3].grad().defined());
      EXPECT_FALSE(leaves[5].grad().defined());
      const at::Tensor added = frozen ? at::zeros_like(want.gradients[3]) : want.gradients[3];
      expect_close(parameters.fc1_weight->main_grad - 1, added.to(at::kFloat), bound, "fc1");
      expect_close(parameters.fc2_weight->main_grad - 1, want.gradients[5].to(at::kFloat), bound,
                   "fc2");
      expect_close(leaves[0].grad(), want.gradients[0], bound, "x");
    }
  }
}

struct MlpCommunication {
  const char* name;
  bool sequence_parallel, tp_comm_overlap;
  LinearOverlap fc1 = LinearOverlap::of_column_parallel(), fc2 = LinearOverlap::of_row_parallel();
};

std::vector<MlpCommunication> mlp_communications() {
  using enum TpOverlapMethod;
  return {{"all_reduce", false, false},
          {"sequence_parallel", true, false},
          {"overlap", true, true},
          {"overlap_in_pieces",
           true,
           true,
           {.fprop = {ring_exchange, 2}, .dgrad = {pipeline, 3}},
           {.fprop = {pipeline, 2}, .dgrad = {ring_exchange, 3}}},
          {"bulk", true, true, {.fprop = {}, .dgrad = {bulk, 1}}, {.fprop = {}, .dgrad = {}}}};
}

class FusedMlpLayouts : public testing::TestWithParam<int> {};

TEST_P(FusedMlpLayouts, MatchOneRank) {
  const int tp_size = GetParam();
  const auto dtype = at::kDouble;
  for (const MlpKind& kind : {mlp_kinds()[0], mlp_kinds()[4], mlp_kinds()[5]}) {
    const MlpValues values(kind, dtype);
    const auto want = test::run(separate_mlp(kind), values.inputs());
    run_thread_world(tp_size, [&](RankContext& rank) {
      const auto groups = rank.make_groups({.tp = tp_size});
      const auto sharding = [&](int dim, int stride = 1) {
        return TensorParallelSharding{dim, stride, groups.tp->rank(), groups.tp->size()};
      };
      const int stride = kind.activation.glu ? 2 : 1;
      for (const MlpCommunication& communication : mlp_communications()) {
        for (const bool main_grads : {false, true}) {
          const auto leaf = [&](const at::Tensor& global, int dim, int stride_of = 1) {
            if (!global.defined()) return ParameterPtr();
            std::vector<int64_t> shape = global.sizes().vec();
            if (dim >= 0) shape[dim] /= tp_size;
            auto parameter = std::make_shared<Parameter>(
                shape, global.options(), sharding(dim, stride_of), Initialization::constant(0));
            const at::NoGradGuard no_grad;
            parameter->data.copy_(parameter->local_part(global));
            if (main_grads && global.dim() == 2)
              parameter->main_grad = at::zeros_like(parameter->data.detach());
            return parameter;
          };
          const FusedMlpParameters parameters{.norm_weight = leaf(values.norm_weight, -1),
                                              .norm_bias = leaf(values.norm_bias, -1),
                                              .fc1_weight = leaf(values.fc1_weight, 0, stride),
                                              .fc1_bias = leaf(values.fc1_bias, 0, stride),
                                              .fc2_weight = leaf(values.fc2_weight, 1)};
          const auto shard = [&](const at::Tensor& whole) {
            if (!communication.sequence_parallel) return whole.detach().clone();
            const int64_t length = kMlpLength / tp_size;
            return whole.detach().narrow(0, groups.tp->rank() * length, length).clone();
          };
          const at::Tensor x = shard(values.x).requires_grad_();
          const at::Tensor y = fused_mlp(x, parameters,
                                         {.norm = norm_of(kind),
                                          .activation = kind.activation,
                                          .tp = groups.tp.get(),
                                          .sequence_parallel = communication.sequence_parallel,
                                          .tp_comm_overlap = communication.tp_comm_overlap,
                                          .fc1_overlap = communication.fc1,
                                          .fc2_overlap = communication.fc2});
          const std::string what = kind.name + ", " + communication.name + ", ";
          expect_close(y, shard(want.value), 1e-10, what + "output");
          torch::autograd::backward({y}, {shard(values.grad_y)});
          expect_close(x.grad(), shard(want.gradients[0]), 1e-10, what + "x");
          size_t next = 1;
          const auto compare = [&](const ParameterPtr& parameter, const std::string& name) {
            if (!parameter) return;
            at::Tensor got =
                parameter->main_grad.defined() ? parameter->main_grad : parameter->data.grad();
            if (parameter->sharding.partition_dim < 0 && communication.sequence_parallel)
              groups.tp->all_reduce(got);  // each rank has the gradient of its shard of x
            expect_close(got, parameter->local_part(want.gradients[next++]), 1e-9, what + name);
          };
          compare(parameters.norm_weight, "norm weight");
          compare(parameters.norm_bias, "norm bias");
          compare(parameters.fc1_weight, "fc1 weight");
          compare(parameters.fc1_bias, "fc1 bias");
          compare(parameters.fc2_weight, "fc2 weight");
        }
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, FusedMlpLayouts, testing::Values(2, 4));

// Both weight gradients are computed while the input gradient is reduced.
TEST(FusedMlp, WeightGradientsOverlapWithTheReductionOfTheInputGradient) {
  const MlpKind kind = mlp_kinds()[0];
  CommandedGroup tp(/*rank=*/0, /*size=*/2);
  tp.backend->complete_all();
  std::vector<at::Tensor> leaves = MlpValues(kind, at::kDouble).inputs();
  for (at::Tensor& leaf : leaves) leaf = leaf.detach().clone().requires_grad_();
  const at::Tensor y =
      fused_mlp(leaves[0], parameters_of(leaves),
                {.norm = norm_of(kind), .activation = kind.activation, .tp = tp.group.get()});
  const size_t forward = tp.backend->log().size();
  const NotedProducts products(*tp.backend);
  torch::autograd::backward({y}, {at::ones_like(y)});
  std::vector<std::string> log = tp.backend->log();
  log.erase(log.begin(), log.begin() + forward);
  EXPECT_THAT(log, testing::ElementsAre("product", "product", "start all_reduce 1", "product",
                                        "product", "wait all_reduce 1"));
}

TEST(FusedMlp, RefusesBadArguments) {
  const MlpKind kind = mlp_kinds()[5];
  const auto with = [&](size_t index, const at::Tensor& other) {
    return [&kind, index, other] {
      auto inputs = MlpValues(kind, at::kFloat).inputs();
      inputs[index] = other;
      fused_mlp_operator(kind)(inputs);
    };
  };
  test::expect_error(with(3, at::zeros({16, 5})), "fc1_weight of shape [f, h]");
  test::expect_error(with(5, at::zeros({6, 16})), "Expected fc2_weight of shape [6, 8]");
  test::expect_error(with(4, at::zeros({8})), "Expected bias of shape [16]");
}

}  // namespace
}  // namespace megatron
