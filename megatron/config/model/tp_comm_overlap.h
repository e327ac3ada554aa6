// Which overlap of communication with GEMMs each tensor-parallel linear layer uses
// (tp_comm_overlap_cfg), with the names of Transformer Engine's userbuffers: qkv_fprop, qkv_dgrad,
// qkv_wgrad, proj_fprop, proj_dgrad, fc1_fprop, fc1_dgrad, fc1_wgrad, fc2_fprop, fc2_dgrad.
//
//   method          for                       meaning
//   ring_exchange   {qkv,fc1}_fprop,          each rank's shard is multiplied when it arrives
//                   {proj,fc2}_dgrad
//   pipeline        {proj,fc2}_fprop,         each piece is reduce-scattered while the next one is
//                   {qkv,fc1}_dgrad           multiplied
//   bulk            {qkv,fc1}_dgrad,          one collective, beside the GEMM of the other gradient
//                   {qkv,fc1}_wgrad
//   none            {qkv,fc1,proj,fc2}_fprop, one collective, then the GEMM, or the reverse
//                   {proj,fc2}_dgrad
// num_splits is the number of pieces of each shard, for ring_exchange and pipeline.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace megatron {

enum class TpOverlapMethod { none, bulk, pipeline, ring_exchange };

struct TpOverlap {
  TpOverlapMethod method = TpOverlapMethod::none;
  int64_t num_splits = 1;

  bool operator==(const TpOverlap&) const = default;
};

// The overlaps of one linear layer; those of a layer without a name are the initial values.
struct LinearOverlap {
  TpOverlap fprop, dgrad;  // of the forward pass and of the input gradient

  static LinearOverlap of_column_parallel() {
    return {.fprop = {TpOverlapMethod::ring_exchange, 1}, .dgrad = {TpOverlapMethod::pipeline, 4}};
  }
  static LinearOverlap of_row_parallel() {
    return {.fprop = {TpOverlapMethod::pipeline, 4}, .dgrad = {TpOverlapMethod::ring_exchange, 1}};
  }
  bool operator==(const LinearOverlap&) const = default;
};

// An entry of tp_comm_overlap_cfg; what is not set has its default.
struct TpOverlapEntry {
  std::optional<std::string> method;
  std::optional<int64_t> num_splits;

  bool operator==(const TpOverlapEntry&) const = default;
};

// tp_comm_overlap_cfg: a YAML file of `name: {method: ..., num_splits: ...}`, or the same as a map.
struct TpCommOverlapConfig {
  std::string file;
  std::map<std::string, TpOverlapEntry> entries;

  bool is_set() const { return !file.empty() || !entries.empty(); }
  bool operator==(const TpCommOverlapConfig&) const = default;
};

// By the name of a linear layer: qkv, proj, fc1 or fc2.
using TpOverlaps = std::map<std::string, LinearOverlap, std::less<>>;

// Every layer's overlaps. Throws Error for a file that cannot be read or is no such mapping, for an
// unknown name (with the nearest), and for a method, a number of pieces or a combination that does
// not work; for a file with its name and line.
TpOverlaps tp_overlaps(const TpCommOverlapConfig& config);

}  // namespace megatron
