// Checkpoints saved by some ranks are loaded by other numbers of ranks.
#include <gmock/gmock.h>

#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/checkpoint/save_checkpoint.h"

#include "tests/checkpoint/checkpoint_fixture.h"

namespace megatron {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kHidden = 8, kFfn = 16, kVocabulary = 12, kLayers = 4;

// The global tensors of a small model.
struct ReferenceModel {
  at::Tensor embedding = numbered({kVocabulary, kHidden});
  at::Tensor gate_up = numbered({2 * kFfn, kHidden});  // gate rows, then up rows
  at::Tensor output =
      numbered({kHidden, kFfn}, at::kBFloat16);  // row-parallel: split along dimension 1
  at::Tensor norm = numbered({kHidden});
};

// The state dict of tensor-parallel rank `tp` of `tp_size` and stage `pp` of `pp_size`. `fill`
// copies the reference into the local tensors.
ShardedStateDict state_of(int64_t tp, int64_t tp_size, int64_t pp, int64_t pp_size, bool fill) {
  const ReferenceModel model;
  ShardedStateDict state;
  const auto live = [&](const at::Tensor& values) {
    return fill ? values.clone() : at::zeros_like(values);
  };
  const auto split = [&](const at::Tensor& values, int64_t dim) {
    return values.chunk(tp_size, dim)[static_cast<size_t>(tp)];
  };
  if (pp == 0) {
    const auto local = live(split(model.embedding, 0));
    state.push_back(part_of("embedding.weight", local, {kVocabulary, kHidden}, 0, tp));
  }
  for (int64_t layer = pp * kLayers / pp_size; layer < (pp + 1) * kLayers / pp_size; ++layer) {
    const std::string prefix = "decoder.layers." + std::to_string(layer) + ".";
    const auto add_layer = [&](const at::Tensor& values) { return values + layer; };
    // A rank's fc1 holds its shard of gate above its shard of up: two tensors with one key.
    const auto halves = add_layer(model.gate_up).chunk(2, 0);
    const auto fc1 = live(at::cat({split(halves[0], 0), split(halves[1], 0)}, 0));
    const auto local_halves = fc1.chunk(2, 0);
    for (int64_t half = 0; half < 2; ++half) {
      state.push_back(part_of(prefix + "mlp.linear_fc1.weight",
                              local_halves[static_cast<size_t>(half)], {2 * kFfn, kHidden}, 0,
                              half * tp_size + tp));
    }
    state.push_back(part_of(prefix + "mlp.linear_fc2.weight",
                            live(split(add_layer(model.output), 1)), {kHidden, kFfn}, 1, tp));
    auto norm = whole(prefix + "norm.weight", live(add_layer(model.norm)));
    norm.replica_id = tp;
    state.push_back(norm);
  }
  return state;
}

std::vector<ShardedStateDict> world_state(int64_t tp_size, int64_t pp_size, bool fill) {
  std::vector<ShardedStateDict> states;
  for (int64_t pp = 0; pp < pp_size; ++pp) {
    for (int64_t tp = 0; tp < tp_size; ++tp) {
      states.push_back(state_of(tp, tp_size, pp, pp_size, fill));
    }
  }
  return states;
}

void expect_loads_as(const std::filesystem::path& root, int64_t tp_size, int64_t pp_size) {
  const auto expected = world_state(tp_size, pp_size, /*fill=*/true);
  const auto loaded = world_state(tp_size, pp_size, /*fill=*/false);
  for (size_t rank = 0; rank < expected.size(); ++rank) {
    CheckpointReader::open(root).load(loaded[rank]);
    for (size_t i = 0; i < expected[rank].size(); ++i) {
      EXPECT_TRUE(at::equal(loaded[rank][i].data, expected[rank][i].data))
          << "TP=" << tp_size << " PP=" << pp_size << " rank " << rank << " "
          << expected[rank][i].key;
    }
  }
}

class ReshardTest : public CheckpointTest {};

TEST_F(ReshardTest, EveryLayoutLoadsEveryOther) {
  const std::pair<int64_t, int64_t> layouts[] = {{1, 1}, {2, 1}, {4, 1}, {1, 2}, {2, 2}, {1, 4}};
  int64_t iteration = 0;
  for (const auto& [tp, pp] : layouts) {
    save_in_ranks(root_, ++iteration, world_state(tp, pp, /*fill=*/true));
    for (const auto& [new_tp, new_pp] : layouts) expect_loads_as(root_, new_tp, new_pp);
  }
}

TEST_F(ReshardTest, ReshardsFromTwoToOneToFour) {
  save_in_ranks(root_ / "two", 1, world_state(2, 1, /*fill=*/true));
  const auto one = world_state(1, 1, /*fill=*/false);
  CheckpointReader::open(root_ / "two").load(one[0]);
  save_in_ranks(root_ / "one", 1, one);
  const auto four = world_state(4, 1, /*fill=*/false);
  for (const auto& state : four) CheckpointReader::open(root_ / "one").load(state);
  save_in_ranks(root_ / "four", 1, four);
  expect_loads_as(root_ / "four", 2, 2);
}

TEST_F(ReshardTest, EveryRankWritesOneShard) {
  auto states = world_state(2, 1, /*fill=*/true);
  states.emplace_back();  // a rank without tensors writes nothing
  save_in_ranks(root_, 7, states);
  EXPECT_THAT(names_in(root_ / "iter_0000007"),
              ElementsAre("index.json", "shard-00000-of-00003.safetensors",
                          "shard-00001-of-00003.safetensors"));
  const auto index = CheckpointReader::open(root_).index();
  EXPECT_EQ(index.tensors.at("decoder.layers.0.mlp.linear_fc1.weight").chunks.size(), 4u);
  EXPECT_EQ(index.tensors.at("decoder.layers.0.norm.weight").chunks.size(), 1u);
}

TEST_F(ReshardTest, ReadsOnlyTheShardsThatOverlap) {
  save_in_ranks(root_, 1, world_state(1, 2, /*fill=*/true));
  std::filesystem::remove(root_ / "iter_0000001/shard-00001-of-00002.safetensors");
  const auto first_stage = state_of(0, 1, 0, 2, /*fill=*/false);
  CheckpointReader::open(root_).load(first_stage);
  EXPECT_TRUE(at::equal(first_stage[0].data, ReferenceModel().embedding));
}

TEST_F(ReshardTest, GapOrContradictionFailsOnAllRanks) {
  auto gap = world_state(2, 1, /*fill=*/true);
  gap[1].erase(gap[1].begin());  // its shard of the embedding
  auto contradiction = world_state(2, 1, /*fill=*/true);
  contradiction[1][0].data = contradiction[1][0].data.to(at::kBFloat16);
  for (const auto& [states, text] : {std::pair(gap, "'embedding.weight' to cover all 96 elements"),
                                     std::pair(contradiction, "from rank 1, BFloat16")}) {
    std::vector<std::string> errors(states.size());
    run_ranks(static_cast<int>(states.size()), [&](const ProcessGroup& world) {
      const auto rank = static_cast<size_t>(world.rank());
      errors[rank] = error_of([&] { save_checkpoint(root_, 1, states[rank], {}, world); });
    });
    EXPECT_THAT(errors, Each(HasSubstr(text)));
    EXPECT_THAT(names_in(root_), ElementsAre());
  }
}

}  // namespace
}  // namespace megatron
