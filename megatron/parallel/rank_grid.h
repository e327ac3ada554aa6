// Which rank holds which part: the grid of ranks in Megatron's order, and the groups that it makes.
// Arithmetic only; the communication groups are made in rank_context.cpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace megatron {

struct ParallelSizes {
  int tp = 1, cp = 1, ep = 1, dp = 1, pp = 1;
  int expt_tp = 0;  // tensor parallelism of the experts; 0: as tp
};

// The place of one rank on each axis.
struct GridCoordinates {
  int tp = 0, cp = 0, ep = 0, dp = 0, pp = 0;
};

// The fastest axis first: neighbouring ranks share a tensor-parallel group.
inline constexpr std::string_view kMegatronRankOrder = "tp-cp-ep-dp-pp";

using RankLists = std::vector<std::vector<int>>;

// One grid of orthogonal axes (Megatron's RankGenerator): rank = sum of coordinate x stride, the
// strides being the running product of the sizes in `order`.
class RankGenerator {
 public:
  // All five sizes of `sizes` are axes: the world is their product. Axes of size 1 may be left out
  // of `order`. Throws Error for unknown, repeated or missing axes.
  RankGenerator(const ParallelSizes& sizes, std::string_view order);

  int world_size() const { return world_size_; }
  // Every group over the axes named in `token` ("tp", "tp-pp", ...; their order in it does not
  // matter). Groups are listed by the coordinates on the other axes, members by those on the named
  // ones, the fastest axis first in both.
  RankLists get_ranks(std::string_view token) const;
  // The place of `rank` on the axis; 0 where the grid lacks it.
  int coordinate(std::string_view axis, int rank) const;

 private:
  struct Axis {
    std::string name;
    int size;
    int stride;
  };
  std::vector<Axis> axes_;
  int world_size_ = 1;
};

// The layout of a world: one grid for the dense part of the model (tp, cp, dp, pp) and one for the
// experts (expt_tp, ep, expt_dp, pp), over the same ranks.
class RankGrid {
 public:
  // Throws Error for sizes below 1, for an expert grid that does not divide tp x cp x dp, and where
  // the two grids disagree on the pipeline groups (possible only where `order` does not end in pp).
  explicit RankGrid(const ParallelSizes& sizes, std::string_view order = kMegatronRankOrder);

  const ParallelSizes& sizes() const { return sizes_; }  // expt_tp filled in
  int expert_data_parallel_size() const { return expert_dp_; }
  int world_size() const { return dense_.world_size(); }

  RankLists get_ranks(std::string_view token) const { return dense_.get_ranks(token); }
  // "tp" is the experts' tensor-parallel axis here, and "dp" their data-parallel one.
  RankLists get_expert_ranks(std::string_view token) const { return expert_.get_ranks(token); }
  // The first and last stage of every pipeline (tied embeddings), and the first alone.
  RankLists embedding_ranks() const;
  RankLists position_embedding_ranks() const;

  // `ep` is the coordinate in the expert grid, the others those in the dense one.
  GridCoordinates coordinates(int rank) const;

 private:
  ParallelSizes sizes_;
  int expert_dp_;
  RankGenerator dense_;
  RankGenerator expert_;
};

// Throws Error, naming the nearest sizes that work, unless tp x cp x pp x dp is `world_size`.
void check_world_size(const ParallelSizes& sizes, int world_size);

// `sizes` with data parallelism set to what is left of `world_size`; Error where nothing whole is
// left.
ParallelSizes with_data_parallel(ParallelSizes sizes, int world_size);

}  // namespace megatron
