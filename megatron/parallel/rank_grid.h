// The grid of ranks in Megatron's order and its groups. Arithmetic only: rank_context.cpp creates
// the communication groups.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace megatron {

struct ParallelSizes {
  int tp = 1, cp = 1, ep = 1, dp = 1, pp = 1;
  int expt_tp = 0;  // tensor parallelism of the experts; 0: as tp
};

// The coordinates of one rank.
struct GridCoordinates {
  int tp = 0, cp = 0, ep = 0, dp = 0, pp = 0;
};

// The fastest axis first: neighbouring ranks share a tensor-parallel group.
inline constexpr std::string_view kMegatronRankOrder = "tp-cp-ep-dp-pp";

using RankLists = std::vector<std::vector<int>>;

// One grid of orthogonal axes (Megatron's RankGenerator): rank = sum of coordinate x stride, where
// the strides are the running products of the sizes in `order`.
class RankGenerator {
 public:
  // The world size is the product of the five sizes. `order` may omit axes of size 1. Throws Error
  // for unknown, repeated or missing axes.
  RankGenerator(const ParallelSizes& sizes, std::string_view order);

  int world_size() const { return world_size_; }
  // All groups over the axes that `token` names ("tp", "tp-pp", ...; in any order). Groups are
  // sorted by the coordinates on the other axes, members by those on the named axes, with the
  // fastest axis first.
  RankLists get_ranks(std::string_view token) const;
  // The coordinate of `rank` on the axis; 0 where the grid lacks the axis.
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

// The layout of a world: two grids over the same ranks, one for the dense layers (tp, cp, dp, pp)
// and one for the experts (expt_tp, ep, expt_dp, pp).
class RankGrid {
 public:
  // Throws Error for sizes below 1, for an expert grid that does not divide tp x cp x dp, and where
  // the two grids disagree on the pipeline groups (possible only where `order` does not end in pp).
  explicit RankGrid(const ParallelSizes& sizes, std::string_view order = kMegatronRankOrder);

  const ParallelSizes& sizes() const { return sizes_; }  // expt_tp filled in
  int expert_data_parallel_size() const { return expert_dp_; }
  int world_size() const { return dense_.world_size(); }

  RankLists get_ranks(std::string_view token) const { return dense_.get_ranks(token); }
  // Here "tp" and "dp" are the experts' tensor- and data-parallel axes.
  RankLists get_expert_ranks(std::string_view token) const { return expert_.get_ranks(token); }
  // The first and last stage of every pipeline, for tied embeddings; the first stage only.
  RankLists embedding_ranks() const;
  RankLists position_embedding_ranks() const;

  // `ep` is the coordinate in the expert grid; the others are those in the dense grid.
  GridCoordinates coordinates(int rank) const;

 private:
  ParallelSizes sizes_;
  int expert_dp_;
  RankGenerator dense_;
  RankGenerator expert_;
};

// Throws Error with the nearest sizes that work, unless tp x cp x pp x dp is `world_size`.
void check_world_size(const ParallelSizes& sizes, int world_size);

// `sizes` with dp = world_size / (tp x cp x pp). Throws Error where that is not a whole number.
ParallelSizes with_data_parallel(ParallelSizes sizes, int world_size);

}  // namespace megatron
