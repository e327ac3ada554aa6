// Strides, groups and coordinates, and the nearest sizes for error messages.
#include "megatron/parallel/rank_grid.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"

namespace megatron {
namespace {

std::vector<std::string> split_token(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const auto dash = text.find('-');
    parts.emplace_back(text.substr(0, dash));
    text = dash == std::string_view::npos ? std::string_view() : text.substr(dash + 1);
  }
  return parts;
}

const std::vector<std::string>& axis_names() {
  static const std::vector<std::string> names{"tp", "cp", "ep", "dp", "pp"};
  return names;
}

int size_of_axis(const ParallelSizes& sizes, const std::string& axis) {
  if (axis == "tp") return sizes.tp;
  if (axis == "cp") return sizes.cp;
  if (axis == "ep") return sizes.ep;
  if (axis == "dp") return sizes.dp;
  if (axis == "pp") return sizes.pp;
  fail("Expected an axis of tp, cp, ep, dp, pp, but got '{}'; the nearest is '{}'", axis,
       nearest_name(axis, axis_names()));
}

void check_positive_sizes(const ParallelSizes& sizes) {
  for (const auto& axis : axis_names()) {
    check(size_of_axis(sizes, axis) >= 1, "Expected a {} parallel size of at least 1, but got {}",
          axis, size_of_axis(sizes, axis));
  }
  check(sizes.expt_tp >= 0, "Expected an expert tensor parallel size of at least 1, but got {}",
        sizes.expt_tp);
}

ParallelSizes with_expert_tensor_parallel(ParallelSizes sizes) {
  check_positive_sizes(sizes);
  if (sizes.expt_tp == 0) sizes.expt_tp = sizes.tp;
  return sizes;
}

ParallelSizes dense_sizes(const ParallelSizes& sizes) {
  return {.tp = sizes.tp, .cp = sizes.cp, .ep = 1, .dp = sizes.dp, .pp = sizes.pp, .expt_tp = 0};
}

ParallelSizes expert_sizes(const ParallelSizes& sizes, int expert_dp) {
  return {
      .tp = sizes.expt_tp, .cp = 1, .ep = sizes.ep, .dp = expert_dp, .pp = sizes.pp, .expt_tp = 0};
}

std::vector<int> divisors(int64_t number) {
  std::vector<int> result;
  for (int64_t d = 1; d <= number; ++d) {
    if (number % d == 0) result.push_back(static_cast<int>(d));
  }
  return result;
}

// The experts share the ranks of one pipeline stage: expt_dp = tp x cp x dp / (expt_tp x ep).
int expert_data_parallel(const ParallelSizes& sizes) {
  const int64_t stage = int64_t{sizes.tp} * sizes.cp * sizes.dp;
  const int64_t expert = int64_t{sizes.expt_tp} * sizes.ep;
  if (stage % expert != 0) {
    const bool some = stage % sizes.expt_tp == 0;
    fail(
        "Expected expert tensor ({}) x expert ({}) parallel sizes to divide the {} ranks of a "
        "pipeline stage (tensor {} x context {} x data {}), but {} does not; {} parallel sizes "
        "that work: {}",
        sizes.expt_tp, sizes.ep, stage, sizes.tp, sizes.cp, sizes.dp, expert,
        some ? "expert" : "expert tensor",
        fmt::join(divisors(some ? stage / sizes.expt_tp : stage), ", "));
  }
  return static_cast<int>(stage / expert);
}

// The sizes nearest to `sizes` (by ratio, summed over the axes) whose product divides `world_size`.
ParallelSizes nearest_sizes(const ParallelSizes& sizes, int world_size) {
  const auto distance = [](int a, int b) { return std::abs(std::log2(double(a) / double(b))); };
  ParallelSizes best{.dp = world_size};
  double best_distance = -1;
  for (const int tp : divisors(world_size)) {
    for (const int pp : divisors(world_size / tp)) {
      for (const int cp : divisors(world_size / tp / pp)) {
        const double d = distance(tp, sizes.tp) + distance(pp, sizes.pp) + distance(cp, sizes.cp);
        if (best_distance >= 0 && d >= best_distance) continue;
        best_distance = d;
        best.tp = tp, best.pp = pp, best.cp = cp, best.dp = world_size / tp / pp / cp;
      }
    }
  }
  return best;
}

}  // namespace

RankGenerator::RankGenerator(const ParallelSizes& sizes, std::string_view order) {
  check_positive_sizes(sizes);
  int64_t stride = 1;
  for (const auto& name : split_token(order)) {
    const int size = size_of_axis(sizes, name);
    const bool repeated = std::any_of(axes_.begin(), axes_.end(),
                                      [&](const Axis& axis) { return axis.name == name; });
    check(!repeated, "Expected each axis once in the rank order, but '{}' has '{}' twice", order,
          name);
    axes_.push_back({name, size, static_cast<int>(stride)});
    stride *= size;
    check(stride <= INT32_MAX,
          "Expected a world of at most {} ranks, but the parallel sizes give {}", INT32_MAX,
          stride);
  }
  for (const auto& name : axis_names()) {
    const bool named = std::any_of(axes_.begin(), axes_.end(),
                                   [&](const Axis& axis) { return axis.name == name; });
    check(named || size_of_axis(sizes, name) == 1,
          "Expected the rank order to name every axis larger than 1, but '{}' lacks {} (size {}); "
          "'{}' names all",
          order, name, size_of_axis(sizes, name), kMegatronRankOrder);
  }
  world_size_ = static_cast<int>(stride);
}

RankLists RankGenerator::get_ranks(std::string_view token) const {
  const std::vector<std::string> wanted = split_token(token);
  const ParallelSizes known;
  for (const auto& name : wanted) size_of_axis(known, name);  // throws for unknown names

  // The rank offsets of all coordinates on the axes inside or outside of `wanted`, the fastest axis
  // innermost.
  const auto offsets = [this, &wanted](bool inside) {
    std::vector<int> result{0};
    for (const auto& axis : axes_) {
      const bool named = std::find(wanted.begin(), wanted.end(), axis.name) != wanted.end();
      if (named != inside) continue;
      std::vector<int> longer;
      for (int i = 0; i < axis.size; ++i) {
        for (const int offset : result) longer.push_back(offset + i * axis.stride);
      }
      result = std::move(longer);
    }
    return result;
  };
  const std::vector<int> members = offsets(/*inside=*/true);
  RankLists groups;
  for (const int start : offsets(/*inside=*/false)) {
    auto& group = groups.emplace_back();
    for (const int member : members) group.push_back(start + member);
  }
  return groups;
}

int RankGenerator::coordinate(std::string_view axis, int rank) const {
  for (const auto& candidate : axes_) {
    if (candidate.name == axis) return rank / candidate.stride % candidate.size;
  }
  return 0;
}

RankGrid::RankGrid(const ParallelSizes& sizes, std::string_view order)
    : sizes_(with_expert_tensor_parallel(sizes)),
      expert_dp_(expert_data_parallel(sizes_)),
      dense_(dense_sizes(sizes_), order),
      expert_(expert_sizes(sizes_, expert_dp_), order) {
  check(dense_.get_ranks("pp") == expert_.get_ranks("pp"),
        "Expected dense and expert layers to share their pipeline groups, but the rank order '{}' "
        "gives them others; an order that ends in pp, such as '{}', works",
        order, kMegatronRankOrder);
}

RankLists RankGrid::embedding_ranks() const {
  RankLists result;
  for (const auto& stages : get_ranks("pp")) {
    auto& group = result.emplace_back(1, stages.front());
    if (stages.size() > 1) group.push_back(stages.back());
  }
  return result;
}

RankLists RankGrid::position_embedding_ranks() const {
  RankLists result;
  for (const auto& stages : get_ranks("pp")) result.push_back({stages.front()});
  return result;
}

GridCoordinates RankGrid::coordinates(int rank) const {
  check(rank >= 0 && rank < world_size(), "Expected a rank of 0 to {}, but got {}",
        world_size() - 1, rank);
  return {.tp = dense_.coordinate("tp", rank),
          .cp = dense_.coordinate("cp", rank),
          .ep = expert_.coordinate("ep", rank),
          .dp = dense_.coordinate("dp", rank),
          .pp = dense_.coordinate("pp", rank)};
}

void check_world_size(const ParallelSizes& sizes, int world_size) {
  check_positive_sizes(sizes);
  const int64_t product = int64_t{sizes.tp} * sizes.cp * sizes.pp * sizes.dp;
  if (product == world_size) return;
  const ParallelSizes near = nearest_sizes(sizes, world_size);
  fail(
      "Expected tensor ({}) x context ({}) x pipeline ({}) x data ({}) parallel sizes to multiply "
      "to the {} rank{} of the world, but they give {}; the nearest that do: tensor {}, context "
      "{}, pipeline {}, data {}",
      sizes.tp, sizes.cp, sizes.pp, sizes.dp, world_size, world_size == 1 ? "" : "s", product,
      near.tp, near.cp, near.pp, near.dp);
}

ParallelSizes with_data_parallel(ParallelSizes sizes, int world_size) {
  check_positive_sizes(sizes);
  const int64_t model = int64_t{sizes.tp} * sizes.cp * sizes.pp;
  if (world_size % model != 0) {
    const ParallelSizes near = nearest_sizes(sizes, world_size);
    fail(
        "Expected tensor ({}) x context ({}) x pipeline ({}) parallel sizes to divide the {} "
        "rank{} of the world, but they give {}; the nearest that do: tensor {}, context {}, "
        "pipeline {}; or start a multiple of {} ranks",
        sizes.tp, sizes.cp, sizes.pp, world_size, world_size == 1 ? "" : "s", model, near.tp,
        near.cp, near.pp, model);
  }
  sizes.dp = static_cast<int>(world_size / model);
  return sizes;
}

}  // namespace megatron
