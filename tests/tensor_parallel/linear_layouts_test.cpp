// A column-parallel layer followed by a row-parallel one, with every kind of communication, against
// one rank: outputs, gradients, finite differences, and bit-identical repetition.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/base/dtype.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/ops/recompute.h"
#include "megatron/parallel/collectives.h"
#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/tensor_parallel/row_parallel_linear.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

constexpr int64_t kLength = 12, kRows = 2, kLayoutHidden = 6, kInner = 16;

struct CommunicationKind {
  const char* name;
  bool sequence_parallel, all_gather_input_in_backward, tp_comm_overlap;
  // In pieces of other numbers than the defaults, or not in pieces.
  LinearOverlap column = LinearOverlap::of_column_parallel();
  LinearOverlap row = LinearOverlap::of_row_parallel();
};

const CommunicationKind kKinds[] = {
    {"all_reduce", false, false, false},
    {"sequence_parallel", true, false, false},
    {"sequence_parallel_gather_in_backward", true, true, false},
    {"overlap", true, false, true},
    {"overlap_gather_in_backward", true, true, true},
    {"overlap_in_other_pieces",
     true,
     false,
     true,
     {{TpOverlapMethod::ring_exchange, 2}, {TpOverlapMethod::pipeline, 3}},
     {{TpOverlapMethod::pipeline, 2}, {TpOverlapMethod::ring_exchange, 3}}},
    {"overlap_of_nothing", true, true, true, {{}, {TpOverlapMethod::bulk, 1}}, {{}, {}}}};

struct LayoutSetting {
  int tp;
  CommunicationKind kind;
  at::ScalarType dtype;
};

at::Tensor ripple(at::IntArrayRef shape, double phase, at::ScalarType dtype) {
  return at::sin(at::arange(c10::multiply_integers(shape), at::kDouble) * 0.7 + phase)
      .view(shape)
      .to(dtype);
}

double bound(at::ScalarType dtype) {
  return dtype == at::kDouble ? 1e-10 : dtype == at::kFloat ? 2e-5 : 6e-2;
}

void expect_near(const at::Tensor& got, const at::Tensor& want, double allowed,
                 const std::string& what) {
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  const at::Tensor a = got.detach().to(at::kDouble), w = want.detach().to(at::kDouble);
  EXPECT_LE(((a - w).abs() / (1 + w.abs())).max().item<double>(), allowed) << what;
}

// tanh(x w1^T + b1) w2^T on one rank.
struct OneRankModel {
  explicit OneRankModel(at::ScalarType dtype, bool bias)
      : w1(leaf({kInner, kLayoutHidden}, 0, dtype)),
        b1(bias ? leaf({kInner}, 1, dtype) : at::Tensor()),
        w2(leaf({kLayoutHidden, kInner}, 2, dtype)),
        x(leaf({kLength, kRows, kLayoutHidden}, 3, dtype)),
        grad_y(ripple({kLength, kRows, kLayoutHidden}, 4, dtype)) {}
  static at::Tensor leaf(at::IntArrayRef shape, double phase, at::ScalarType dtype) {
    return ripple(shape, phase, dtype).set_requires_grad(true);
  }
  at::Tensor forward() const { return at::linear(at::tanh(at::linear(x, w1, b1)), w2); }

  at::Tensor w1, b1, w2, x, grad_y;
};

// The same model over the ranks of a group.
struct ShardedModel {
  ShardedModel(const OneRankModel& global, const ProcessGroupPtr& tp, const CommunicationKind& kind,
               bool main_grads)
      : options{.tensor = global.x.options().requires_grad(false),
                .tp = tp,
                .sequence_parallel = kind.sequence_parallel,
                .all_gather_input_in_backward = kind.all_gather_input_in_backward,
                .tp_comm_overlap = kind.tp_comm_overlap,
                .tp_overlaps = std::make_shared<const TpOverlaps>(
                    TpOverlaps{{"fc1", kind.column}, {"fc2", kind.row}})},
        column({.input_size = kLayoutHidden,
                .output_size = kInner,
                .bias = global.b1.defined(),
                .tp_comm_buffer_name = "fc1"},
               options),
        row({.input_size = kInner,
             .output_size = kLayoutHidden,
             .bias = false,
             .tp_comm_buffer_name = "fc2"},
            options) {
    const at::NoGradGuard no_grad;
    const auto fill = [](const ParameterPtr& parameter, const at::Tensor& values) {
      parameter->data.copy_(parameter->local_part(values));
    };
    const ParameterPtr w1 = column.parameters()[0], w2 = row.parameters()[0];
    fill(w1, global.w1);
    if (global.b1.defined()) fill(column.parameters()[1], global.b1);
    fill(w2, global.w2);
    for (const ParameterPtr& weight : {w1, w2}) {
      const auto wide = accumulation_dtype(weight->data.scalar_type());
      if (main_grads) weight->main_grad = at::zeros_like(weight->data.detach(), wide);
    }
  }
  at::Tensor shard(const at::Tensor& sequence) const {
    if (!options.sequence_parallel) return sequence.detach().clone();
    const int64_t length = kLength / options.tp->size();
    return sequence.detach().narrow(0, options.tp->rank() * length, length).clone();
  }
  at::Tensor forward(const at::Tensor& x, bool recompute = false) const {
    return recompute_if(
        recompute, [this](const at::Tensor& y) { return row.forward(at::tanh(column.forward(y))); },
        x);
  }
  // The gradient of a parameter, in main_grad or grad.
  static at::Tensor gradient(const Parameter& parameter) {
    return parameter.main_grad.defined() ? parameter.main_grad : parameter.data.grad();
  }

  LayerOptions options;
  ColumnParallelLinear column;
  RowParallelLinear row;
};

class LinearLayouts : public testing::TestWithParam<LayoutSetting> {};

TEST_P(LinearLayouts, MatchOneRank) {
  const auto [tp_size, kind, dtype] = GetParam();
  for (const bool bias : {false, true}) {
    const OneRankModel global(dtype, bias);
    const at::Tensor y = global.forward();
    torch::autograd::backward({y}, {global.grad_y});
    run_thread_world(
        tp_size, [&, kind = kind, dtype = dtype, tp_size = tp_size](RankContext& rank) {
          const auto groups = rank.make_groups({.tp = tp_size});
          for (const bool recompute : {false, true}) {
            for (const bool main_grads : {false, true}) {
              const ShardedModel sharded(global, groups.tp, kind, main_grads);
              const at::Tensor x = sharded.shard(global.x).set_requires_grad(true);
              const at::Tensor output = sharded.forward(x, recompute);
              expect_near(output, sharded.shard(y), bound(dtype), "output");
              torch::autograd::backward({output}, {sharded.shard(global.grad_y)});
              expect_near(x.grad(), sharded.shard(global.x.grad()), bound(dtype), "input");
              const auto compare = [&](const ParameterPtr& parameter, const at::Tensor& gradient) {
                expect_near(ShardedModel::gradient(*parameter), parameter->local_part(gradient),
                            bound(dtype), "parameter");
              };
              compare(sharded.column.parameters()[0], global.w1.grad());
              if (bias) compare(sharded.column.parameters()[1], global.b1.grad());
              compare(sharded.row.parameters()[0], global.w2.grad());
            }
          }
        });
  }
}

TEST_P(LinearLayouts, AreDeterministic) {
  const auto [tp_size, kind, dtype] = GetParam();
  const OneRankModel global(dtype, /*bias=*/true);
  run_thread_world(tp_size, [&, kind = kind, tp_size = tp_size](RankContext& rank) {
    const auto groups = rank.make_groups({.tp = tp_size});
    std::vector<std::vector<at::Tensor>> runs;
    for (int run = 0; run < 2; ++run) {
      const ShardedModel sharded(global, groups.tp, kind, /*main_grads=*/true);
      const at::Tensor x = sharded.shard(global.x).set_requires_grad(true);
      const at::Tensor output = sharded.forward(x);
      torch::autograd::backward({output}, {sharded.shard(global.grad_y)});
      runs.push_back({output, x.grad(), sharded.column.parameters()[0]->main_grad,
                      sharded.row.parameters()[0]->main_grad});
    }
    for (size_t i = 0; i < runs[0].size(); ++i) EXPECT_TRUE(at::equal(runs[0][i], runs[1][i])) << i;
  });
}

std::vector<LayoutSetting> settings() {
  std::vector<LayoutSetting> all;
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    all.push_back({1, kKinds[0], dtype});
    for (const int tp : {2, 4}) {
      for (const CommunicationKind& kind : kKinds) {
        // Sequence shards of 3 or 6 tokens, so the chunks of overlapped collectives are uneven.
        all.push_back({tp, kind, dtype});
      }
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Settings, LinearLayouts, testing::ValuesIn(settings()),
                         [](const auto& info) {
                           return fmt::format("tp{}_{}_{}", info.param.tp, info.param.kind.name,
                                              c10::toString(info.param.dtype));
                         });

// Overlap gives the same bits as a linear layer with collectives before and after it.
TEST(LinearOverlap, IsBitIdenticalToSeparateCollectives) {
  for (const CommunicationKind& kind : {kKinds[0], kKinds[1], kKinds[2]}) {
    const OneRankModel global(at::kFloat, /*bias=*/true);
    run_thread_world(2, [&](RankContext& rank) {
      const auto groups = rank.make_groups({.tp = 2});
      const ShardedModel sharded(global, groups.tp, kind, /*main_grads=*/true);
      const ParameterPtr weight = sharded.column.parameters()[0],
                         bias = sharded.column.parameters()[1];
      const at::Tensor x = sharded.shard(global.x).set_requires_grad(true);
      const at::Tensor output = sharded.column.forward(x);
      const at::Tensor grad_y = at::cos(output.detach());
      torch::autograd::backward({output}, {grad_y});
      const at::Tensor bias_gradient = bias->data.grad(), main_grad = weight->main_grad;

      const at::Tensor x2 = x.detach().clone().set_requires_grad(true);
      const at::Tensor bias2 = bias->data.detach().clone().set_requires_grad(true);
      const at::Tensor main_grad2 = at::zeros_like(main_grad);
      const at::Tensor gathered = kind.sequence_parallel
                                      ? gather_from_sequence_parallel_region(x2, *groups.tp)
                                      : copy_to_tensor_model_parallel_region(x2, *groups.tp);
      const at::Tensor separate = linear(gathered, weight->data, bias2, main_grad2);
      torch::autograd::backward({separate}, {grad_y});
      EXPECT_TRUE(at::equal(output, separate));
      EXPECT_TRUE(at::equal(x.grad(), x2.grad()));
      EXPECT_TRUE(at::equal(bias_gradient, bias2.grad()));
      EXPECT_TRUE(at::equal(main_grad, main_grad2));
    });
  }
}

// Central differences of an objective over all ranks, for elements of the global input and weights.
TEST(LinearLayoutGradients, MatchFiniteDifferences) {
  for (const CommunicationKind& kind : kKinds) {
    run_thread_world(2, [&](RankContext& rank) {
      const auto groups = rank.make_groups({.tp = 2});
      const OneRankModel global(at::kDouble, /*bias=*/false);
      const auto objective = [&] {
        const at::NoGradGuard no_grad;
        const ShardedModel sharded(global, groups.tp, kind, /*main_grads=*/false);
        at::Tensor sum = (sharded.forward(sharded.shard(global.x)) * sharded.shard(global.grad_y))
                             .sum()
                             .view({1});
        if (kind.sequence_parallel) groups.tp->all_reduce(sum);
        return sum.item<double>();
      };
      const ShardedModel sharded(global, groups.tp, kind, /*main_grads=*/false);
      const at::Tensor x = sharded.shard(global.x).set_requires_grad(true);
      torch::autograd::backward({sharded.forward(x)}, {sharded.shard(global.grad_y)});
      const auto differences = [&](const at::Tensor& tensor, int64_t step) {
        at::Tensor numeric = at::zeros_like(tensor);
        double* element = tensor.data_ptr<double>();
        for (int64_t i = 0; i < tensor.numel(); i += step) {
          const double kept = element[i];
          element[i] = kept + 1e-5;
          const double above = objective();
          element[i] = kept - 1e-5;
          const double below = objective();
          element[i] = kept;
          numeric.view(-1)[i] = (above - below) / 2e-5;
        }
        return numeric;
      };
      const auto compare = [&](const at::Tensor& gradient, const at::Tensor& numeric) {
        const at::Tensor probed = numeric.ne(0);
        EXPECT_TRUE(at::allclose(gradient * probed, numeric, 1e-6, 1e-6)) << kind.name;
      };
      compare(x.grad(), sharded.shard(differences(global.x, 5)));
      const ParameterPtr w1 = sharded.column.parameters()[0], w2 = sharded.row.parameters()[0];
      compare(w1->data.grad(), w1->local_part(differences(global.w1, 3)));
      compare(w2->data.grad(), w2->local_part(differences(global.w2, 3)));
    });
  }
}

TEST(ColumnParallelLinear, GathersItsOutput) {
  for (const int tp_size : {2, 4}) {
    for (const CommunicationKind& kind : kKinds) {
      const OneRankModel global(at::kDouble, /*bias=*/true);
      const at::Tensor y = at::linear(global.x, global.w1, global.b1);
      const at::Tensor grad_y = at::cos(y.detach());
      torch::autograd::backward({y}, {grad_y});
      run_thread_world(tp_size, [&](RankContext& rank) {
        const auto groups = rank.make_groups({.tp = tp_size});
        const ShardedModel sharded(global, groups.tp, kind, /*main_grads=*/false);
        const at::Tensor x = sharded.shard(global.x).set_requires_grad(true);
        const at::Tensor output = sharded.column.forward(x, nullptr, /*gather_output=*/true);
        expect_near(output, y, 1e-10, "gathered output");
        torch::autograd::backward({output}, {grad_y});
        expect_near(x.grad(), sharded.shard(global.x.grad()), 1e-10, "input");
        const ParameterPtr weight = sharded.column.parameters()[0];
        expect_near(weight->data.grad(), weight->local_part(global.w1.grad()), 1e-10, "weight");
      });
    }
  }
}

// Deferred weight gradients are the same sums; those over the limit are computed in backward.
TEST(DeferredWeightGradients, MatchImmediateOnes) {
  for (const CommunicationKind& kind : kKinds) {
    for (const int64_t limit : {0, 2}) {
      const OneRankModel global(at::kDouble, /*bias=*/false);
      run_thread_world(2, [&](RankContext& rank) {
        const auto groups = rank.make_groups({.tp = 2});
        const ShardedModel sharded(global, groups.tp, kind, /*main_grads=*/true);
        const ParameterPtr weight = sharded.column.weight();
        ColumnParallelLinear deferring({.input_size = kLayoutHidden,
                                        .output_size = kInner,
                                        .bias = false,
                                        .allocate_weight = false,
                                        .weight_gradient_deferral_limit = limit},
                                       sharded.options);
        const auto pass = [&](const ColumnParallelLinear& layer, double scale) {
          const at::Tensor x = (sharded.shard(global.x) * scale).set_requires_grad(true);
          const at::Tensor output = layer.forward(x, weight, /*gather_output=*/false);
          torch::autograd::backward({output}, {at::cos(output.detach())});
          return x.grad();
        };
        std::vector<at::Tensor> inputs;
        for (int i = 0; i < 3; ++i) inputs.push_back(pass(sharded.column, 1 + i));
        const at::Tensor want = weight->main_grad.clone();
        weight->main_grad.zero_();
        for (int i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(pass(deferring, 1 + i), inputs[i]));
        EXPECT_EQ(weight->main_grad.count_nonzero().item<int64_t>() > 0, limit == 2);
        deferring.compute_deferred_weight_gradients();
        if (limit == 0 && !kind.tp_comm_overlap) {
          EXPECT_TRUE(at::equal(weight->main_grad, want));
        } else {
          expect_near(weight->main_grad, want, 1e-10, kind.name);
        }
        const at::Tensor once = weight->main_grad.clone();
        deferring.compute_deferred_weight_gradients();  // no entries are left
        EXPECT_TRUE(at::equal(weight->main_grad, once));
      });
    }
  }
}

}  // namespace
}  // namespace megatron
