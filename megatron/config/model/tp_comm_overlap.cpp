#include "megatron/config/model/tp_comm_overlap.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/config/model/tp_comm_overlap_entries.h"

namespace megatron {
namespace {

using enum TpOverlapMethod;

struct MethodName {
  std::string_view name;
  TpOverlapMethod method;
};
constexpr MethodName kMethods[] = {
    {"none", none}, {"bulk", bulk}, {"pipeline", pipeline}, {"ring_exchange", ring_exchange}};

bool is_column_parallel(std::string_view linear) {
  return linear == "qkv" || linear == "fc1";
}

// Names of entries, and the methods of each.
std::map<std::string, std::vector<std::string>> valid_methods() {
  std::map<std::string, std::vector<std::string>> methods;
  for (const std::string linear : {"qkv", "fc1"}) {
    methods[linear + "_fprop"] = {"ring_exchange", "none"};
    methods[linear + "_dgrad"] = {"pipeline", "bulk"};
    methods[linear + "_wgrad"] = {"bulk"};
  }
  for (const std::string linear : {"proj", "fc2"}) {
    methods[linear + "_fprop"] = {"pipeline", "none"};
    methods[linear + "_dgrad"] = {"ring_exchange", "none"};
  }
  return methods;
}

TpOverlapMethod method_of(std::string_view name) {
  for (const MethodName& known : kMethods) {
    if (known.name == name) return known.method;
  }
  fail("Expected a method, but got '{}'", name);
}

void check_name(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& entry : valid_methods()) names.push_back(entry.first);
  check(std::find(names.begin(), names.end(), name) != names.end(),
        "Expected the entries {} of tp_comm_overlap_cfg, but got '{}'{}", fmt::join(names, ", "),
        name, nearest_hint(name, names));
}

// `initial` with what the entry sets.
TpOverlap overlap_of(const std::string& name, const TpOverlapEntry& entry, TpOverlap initial) {
  TpOverlap overlap = initial;
  if (entry.method) {
    const std::vector<std::string> methods = valid_methods().at(name);
    check(std::find(methods.begin(), methods.end(), *entry.method) != methods.end(),
          "Expected method {} for {} in tp_comm_overlap_cfg, but got '{}'",
          fmt::join(methods, " or "), name, *entry.method);
    overlap.method = method_of(*entry.method);
    const bool in_pieces = overlap.method == pipeline || overlap.method == ring_exchange;
    if (!in_pieces) overlap.num_splits = 1;
  }
  if (!entry.num_splits) return overlap;
  check(overlap.method == pipeline || overlap.method == ring_exchange,
        "Expected no num_splits for {} in tp_comm_overlap_cfg, whose method runs one collective, "
        "but got {}; leave it out",
        name, *entry.num_splits);
  check(*entry.num_splits >= 1,
        "Expected num_splits of at least 1 for {} in tp_comm_overlap_cfg, but got {}", name,
        *entry.num_splits);
  overlap.num_splits = *entry.num_splits;
  return overlap;
}

TpOverlaps overlaps_of(const std::map<std::string, TpOverlapEntry>& entries) {
  TpOverlaps overlaps;
  for (const char* linear : {"qkv", "proj", "fc1", "fc2"}) {
    overlaps[linear] = is_column_parallel(linear) ? LinearOverlap::of_column_parallel()
                                                  : LinearOverlap::of_row_parallel();
  }
  for (const auto& [name, entry] : entries) {
    check_name(name);
    check(entry.method || entry.num_splits,
          "Expected method or num_splits for {} in tp_comm_overlap_cfg, but got neither", name);
    LinearOverlap& linear = overlaps[name.substr(0, name.find('_'))];
    if (name.ends_with("_fprop")) linear.fprop = overlap_of(name, entry, linear.fprop);
    if (name.ends_with("_dgrad")) linear.dgrad = overlap_of(name, entry, linear.dgrad);
  }
  // A weight gradient beside the whole reduce-scatter of the input gradient: both are one choice.
  for (const char* linear : {"qkv", "fc1"}) {
    const std::string wgrad = fmt::format("{}_wgrad", linear),
                      dgrad = fmt::format("{}_dgrad", linear);
    const auto found = entries.find(wgrad);
    if (found == entries.end()) continue;
    overlap_of(wgrad, found->second, {bulk, 1});
    if (!entries.contains(dgrad)) overlaps[linear].dgrad = {bulk, 1};
    check(overlaps[linear].dgrad.method == bulk,
          "Expected method bulk for {} in tp_comm_overlap_cfg beside {}, but got pipeline, which "
          "leaves no reduce-scatter for the weight gradient; leave {} out",
          dgrad, wgrad, wgrad);
  }
  return overlaps;
}

// An error at a place in the file.
[[noreturn]] void fail_in_file(const std::string& file, const YAML::Mark& mark,
                               std::string_view text) {
  fail("{}, line {}: {}", file, mark.line + 1, text);
}

std::string yaml_scalar(const std::string& file, const YAML::Node& node) {
  if (!node.IsScalar()) fail_in_file(file, node.Mark(), "Expected a single value");
  return node.Scalar();
}

TpOverlapEntry read_overlap_entry(const std::string& file, const std::string& name,
                                  const YAML::Node& node) {
  if (!node.IsMap()) {
    fail_in_file(file, node.Mark(),
                 fmt::format("Expected {}: {{method: ..., num_splits: ...}}", name));
  }
  // Parameters of userbuffers for GPUs, and Transformer Engine's other kinds of rings.
  static const std::vector<std::string> of_userbuffers = {
      "num_sm",  "cga_size",      "set_sm_margin",     "atomic_gemm",
      "fp8_buf", "comm_priority", "gemm_priority",     "pipeline_rs_overlap_first_gemm",
      "use_ce",  "aggregate",     "is_reduce_scatter", "use_bidirectional_ring"};
  static const std::vector<std::string> known = {"method", "num_splits"};
  TpOverlapEntry entry;
  for (const auto& member : node) {
    const std::string key = yaml_scalar(file, member.first);
    const std::string text = yaml_scalar(file, member.second);
    if (key == "method") {
      entry.method = text;
    } else if (key == "num_splits") {
      int64_t splits = 0;
      if (!YAML::convert<int64_t>::decode(member.second, splits)) {
        fail_in_file(file, member.second.Mark(),
                     fmt::format("Expected an integer for num_splits, but got '{}'", text));
      }
      entry.num_splits = splits;
    } else if (std::find(of_userbuffers.begin(), of_userbuffers.end(), key) !=
               of_userbuffers.end()) {
      fail_in_file(file, member.first.Mark(),
                   fmt::format("Expected method or num_splits for {}, but got {}, which sets up "
                               "Transformer Engine's userbuffers; leave it out",
                               name, key));
    } else {
      fail_in_file(file, member.first.Mark(),
                   fmt::format("Expected method or num_splits for {}, but got '{}'{}", name, key,
                               nearest_hint(key, known)));
    }
  }
  return entry;
}

std::map<std::string, TpOverlapEntry> read_overlap_entries(const std::string& file) {
  check(std::filesystem::is_regular_file(file),
        "Expected a YAML file for tp_comm_overlap_cfg, but got '{}', which is none", file);
  YAML::Node top;
  try {
    top = YAML::LoadFile(file);
  } catch (const YAML::Exception& error) {
    fail_in_file(file, error.mark, fmt::format("Expected YAML, but got: {}", error.msg));
  }
  check(!top.IsNull(), "Expected entries such as qkv_fprop: {{...}} in {}, but got an empty file",
        file);
  if (!top.IsMap()) fail_in_file(file, top.Mark(), "Expected entries such as qkv_fprop: {...}");
  std::map<std::string, TpOverlapEntry> entries;
  for (const auto& node : top) {
    const std::string name = yaml_scalar(file, node.first);
    try {
      check_name(name);
      const TpOverlapEntry entry = read_overlap_entry(file, name, node.second);
      check(entries.emplace(name, entry).second, "Expected one entry {}, but got two", name);
    } catch (const Error& error) {
      const std::string_view text = error.what();
      if (text.starts_with(file)) throw;
      fail_in_file(file, node.first.Mark(), text);
    }
  }
  return entries;
}

}  // namespace

std::map<std::string, TpOverlapEntry> tp_overlap_entries(const TpCommOverlapConfig& config) {
  if (config.file.empty()) return config.entries;
  check(config.entries.empty(),
        "Expected a file or a map as tp_comm_overlap_cfg, but got both; leave one out");
  return read_overlap_entries(config.file);
}

TpOverlaps tp_overlaps(const TpCommOverlapConfig& config) {
  const auto entries = tp_overlap_entries(config);
  if (config.file.empty()) return overlaps_of(entries);
  try {
    return overlaps_of(entries);
  } catch (const Error& error) {
    fail("{}: {}", config.file, error.what());
  }
}

}  // namespace megatron
