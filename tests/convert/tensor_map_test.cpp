// Transforms: which values go where.
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/convert/import_weights.h"
#include "megatron/convert/transforms.h"

namespace megatron {
namespace {

// Tensors in memory.
class MemorySource : public TensorSource {
 public:
  explicit MemorySource(std::map<std::string, at::Tensor> tensors) : tensors_(std::move(tensors)) {
    for (const auto& [name, tensor] : tensors_)
      described_[name] = {tensor.sizes().vec(), tensor.scalar_type()};
  }
  std::string path() const override { return "memory"; }
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }
  const SourceTensor* find(const std::string& name) const override {
    const auto found = described_.find(name);
    return found == described_.end() ? nullptr : &found->second;
  }
  at::Tensor read(const std::string& name, const Rectangle& region) override {
    return narrow_to(tensors_.at(name), std::vector<int64_t>(region.offset.size(), 0), region);
  }

 private:
  std::map<std::string, at::Tensor> tensors_;
  std::map<std::string, SourceTensor> described_;
};

// 4 heads of 2 features in 2 groups, hidden 3.
GPTModelConfig small_model() {
  GPTModelConfig config;
  config.transformer.num_attention_heads = 4;
  config.transformer.num_query_groups = 2;
  config.transformer.kv_channels = 2;
  config.transformer.hidden_size = 3;
  return config;
}

MappedParameter mapped(Transform* transform, const std::vector<int64_t>& shape,
                       const std::vector<std::string>& tensors) {
  return {"parameter", shape, transform({small_model(), shape, tensors})};
}

at::Tensor numbered(at::IntArrayRef shape, int64_t first) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return at::arange(first, first + count, at::kFloat).view(shape);
}

TEST(Transforms, QueryKeyValueIsByGroup) {
  const at::Tensor q = numbered({8, 3}, 0), k = numbered({4, 3}, 100), v = numbered({4, 3}, 200);
  MemorySource source({{"q", q}, {"k", k}, {"v", v}});
  const MappedParameter parameter = mapped(query_key_value, {16, 3}, {"q", "k", "v"});
  const at::Tensor expected = at::cat({q.narrow(0, 0, 4), k.narrow(0, 0, 2), v.narrow(0, 0, 2),
                                       q.narrow(0, 4, 4), k.narrow(0, 2, 2), v.narrow(0, 2, 2)});
  EXPECT_TRUE(at::equal(read_parameter(source, parameter, whole_rectangle({16, 3})), expected));
  // A rank's shard: the second group, and of it the last two columns.
  const Rectangle shard{{8, 1}, {8, 2}};
  EXPECT_TRUE(
      at::equal(read_parameter(source, parameter, shard), expected.slice(0, 8).slice(1, 1)));
}

TEST(Transforms, JoinedAndTransposedAgreeWithSeparateTensors) {
  const at::Tensor q = numbered({8, 3}, 0), k = numbered({4, 3}, 100), v = numbered({4, 3}, 200);
  const at::Tensor joined = at::cat({q, k, v});
  MemorySource source({{"q", q},
                       {"k", k},
                       {"v", v},
                       {"qkv", joined},
                       {"qkv_t", joined.t().contiguous()},
                       {"bias", joined.select(1, 0).clone()}});
  const Rectangle whole = whole_rectangle({16, 3});
  const at::Tensor expected =
      read_parameter(source, mapped(query_key_value, {16, 3}, {"q", "k", "v"}), whole);
  EXPECT_TRUE(at::equal(
      read_parameter(source, mapped(joined_query_key_value, {16, 3}, {"qkv"}), whole), expected));
  EXPECT_TRUE(at::equal(
      read_parameter(source, mapped(transposed_query_key_value, {16, 3}, {"qkv_t"}), whole),
      expected));
  EXPECT_TRUE(at::equal(
      read_parameter(source, mapped(joined_query_key_value, {16}, {"bias"}), whole_rectangle({16})),
      expected.select(1, 0)));
}

TEST(Transforms, GateIsBeforeUp) {
  const at::Tensor gate = numbered({4, 3}, 0), up = numbered({4, 3}, 50);
  MemorySource source({{"gate", gate}, {"up", up}});
  EXPECT_TRUE(at::equal(
      read_parameter(source, mapped(gate_and_up, {8, 3}, {"gate", "up"}), whole_rectangle({8, 3})),
      at::cat({gate, up})));
}

TEST(Transforms, TransposedReadsOnlyTheShard) {
  const at::Tensor weight = numbered({3, 6}, 0);  // [in, out]
  MemorySource source({{"w", weight}});
  const at::Tensor shard =
      read_parameter(source, mapped(transposed, {6, 3}, {"w"}), Rectangle{{2, 1}, {3, 2}});
  EXPECT_TRUE(at::equal(shard, weight.t().narrow(0, 2, 3).narrow(1, 1, 2)));
}

TEST(ImportWeights, PaddingRowsBecomeZero) {
  MemorySource source({{"embedding", numbered({5, 3}, 1)}});
  TensorMap map;
  map.parameters.push_back(mapped(same, {5, 3}, {"embedding"}));
  // The second of two ranks holds rows 4 to 7 of 8.
  at::Tensor data = at::full({4, 3}, -1.0);
  import_weights(source, map,
                 {{.key = "parameter",
                   .data = data,
                   .global_shape = {8, 3},
                   .global_offset = {4, 0},
                   .allow_shape_mismatch = true}});
  EXPECT_TRUE(at::equal(data.narrow(0, 0, 1), numbered({1, 3}, 13)));
  EXPECT_TRUE(data.narrow(0, 1, 3).eq(0).all().item<bool>());
}

TEST(Patterns, StarStandsForANumber) {
  EXPECT_TRUE(matches_pattern("model.layers.12.norm.weight", "model.layers.*.norm.weight"));
  EXPECT_FALSE(matches_pattern("model.layers.x.norm.weight", "model.layers.*.norm.weight"));
  EXPECT_FALSE(matches_pattern("model.layers.1.norm.weight2", "model.layers.*.norm.weight"));
  EXPECT_FALSE(matches_pattern("model.layers..norm.weight", "model.layers.*.norm.weight"));
}

}  // namespace
}  // namespace megatron
