#include "megatron/checkpoint/save_checkpoint.h"

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_directory.h"
#include "megatron/checkpoint/checkpoint_index.h"
#include "megatron/formats/file_io.h"
#include "megatron/formats/safetensors_writer.h"
#include "megatron/parallel/object_collectives.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// The results of all ranks, and the first failure.
struct StepOutcome {
  std::vector<json> values;
  std::optional<std::string> failure;
};

// Runs `step` on every rank and gathers the results, so that all ranks continue or none does.
template <typename Step>
StepOutcome run_on_all_ranks(const ProcessGroup& world, Step&& step) {
  json message = json::object();
  try {
    message["value"] = step();
  } catch (const c10::Error& error) {
    message["failure"] = error.what_without_backtrace();
  } catch (const std::exception& error) {
    message["failure"] = error.what();
  }
  const std::string text = message.dump(-1, ' ', false, json::error_handler_t::replace);
  StepOutcome outcome;
  for (const auto& reply : all_gather_strings(text, world)) {
    const auto parsed = json::parse(reply);
    if (parsed.contains("failure") && !outcome.failure) {
      outcome.failure = fmt::format("rank {} failed: {}", world.ranks()[outcome.values.size()],
                                    parsed["failure"].get<std::string>());
    }
    outcome.values.push_back(parsed.value("value", json()));
  }
  return outcome;
}

// The tensors that this rank writes, and their index entries (without checksums).
struct ShardPlan {
  std::vector<NamedTensor> tensors;
  CheckpointTensors table;
};

std::string chunk_name(const std::string& key, const Rectangle& region,
                       const std::vector<int64_t>& global_shape) {
  if (region.shape == global_shape) return key;
  return fmt::format("{}@{}", key, fmt::join(region.offset, ","));
}

ShardPlan plan_shard(const ShardedStateDict& state, const std::string& file) {
  ShardPlan plan;
  for (const auto& part : state) {
    if (part.replica_id != 0) continue;
    check(part.data.defined(), "Expected data in the sharded tensor '{}', but it is undefined",
          part.key);
    Rectangle region{part.global_offset, part.data.sizes().vec()};
    check(
        is_inside(region, part.global_shape),
        "Expected the sharded tensor '{}' to lie within its global shape {}, but got offset {} and "
        "shape {}",
        part.key, format_shape(part.global_shape), format_shape(region.offset),
        format_shape(region.shape));
    const auto [entry, is_new] = plan.table.try_emplace(
        part.key, CheckpointTensor{part.data.scalar_type(), part.global_shape, {}});
    check(
        is_new || (entry->second.dtype == part.data.scalar_type() &&
                   entry->second.shape == part.global_shape),
        "Expected the shards of '{}' to agree in data type and global shape, but got {} {} and {} "
        "{}",
        part.key, c10::toString(entry->second.dtype), format_shape(entry->second.shape),
        c10::toString(part.data.scalar_type()), format_shape(part.global_shape));
    // A rank's shard may be empty; an empty global tensor still needs one chunk.
    if (part.data.numel() == 0 && shape_volume(part.global_shape) != 0) continue;
    auto name = chunk_name(part.key, region, part.global_shape);
    plan.tensors.push_back({name, part.data, part.read});
    entry->second.chunks.push_back({file, std::move(name), std::move(region), /*checksum=*/""});
  }
  return plan;
}

// Merges the ranks' tables. Throws Error if they contradict each other or leave gaps.
CheckpointTensors merge_tables(const std::vector<json>& tables, const ProcessGroup& world) {
  CheckpointTensors merged;
  for (size_t i = 0; i < tables.size(); ++i) {
    for (auto& [key, tensor] : tensors_from_json(tables[i])) {
      const auto [entry, is_new] = merged.try_emplace(key, tensor);
      if (is_new) continue;
      auto& other = entry->second;
      check(other.dtype == tensor.dtype && other.shape == tensor.shape,
            "Expected the ranks to agree in data type and global shape of '{}', but got {} {} and, "
            "from rank {}, {} {}",
            key, c10::toString(other.dtype), format_shape(other.shape), world.ranks()[i],
            c10::toString(tensor.dtype), format_shape(tensor.shape));
      other.chunks.insert(other.chunks.end(), tensor.chunks.begin(), tensor.chunks.end());
    }
  }
  for (const auto& [key, tensor] : merged) {
    std::vector<Rectangle> regions;
    for (const auto& chunk : tensor.chunks) regions.push_back(chunk.region);
    check_tiling(key, tensor.shape, std::move(regions));
  }
  return merged;
}

// Adds the checksums that the ranks returned.
void fill_checksums(CheckpointIndex& index, const std::vector<json>& written,
                    const ProcessGroup& world) {
  std::map<std::pair<std::string, std::string>, std::string> checksums;  // by file and name
  for (size_t i = 0; i < written.size(); ++i) {
    if (written[i]["names"].empty()) continue;
    const auto file = written[i]["file"].get<std::string>();
    index.files[file] = {written[i]["bytes"].get<int64_t>(), world.ranks()[i]};
    for (size_t n = 0; n < written[i]["names"].size(); ++n) {
      checksums[{file, written[i]["names"][n]}] = written[i]["xxh3"][n];
    }
  }
  for (auto& [key, tensor] : index.tensors) {
    for (auto& chunk : tensor.chunks) chunk.checksum = checksums.at({chunk.file, chunk.name});
  }
}

class CheckpointSaver {
 public:
  CheckpointSaver(const fs::path& root, int64_t iteration, const ProcessGroup& world,
                  const SaveOptions& options)
      : root_(root), iteration_(iteration), world_(world), options_(options) {}

  SavedCheckpoint save(const ShardedStateDict& state, const json& common) {
    const auto file = shard_file_name(world_.rank(), world_.size());
    ShardPlan plan;
    const auto tables = run([&] {
      announce(SaveStage::plan);
      check(iteration_ >= 0, "Expected an iteration of at least 0, but got {}", iteration_);
      plan = plan_shard(state, file);
      return tensors_to_json(plan.table);
    });
    CheckpointIndex index{iteration_, common, {}, {}};
    const auto directories = run([&] {
      if (!world_.is_first()) return json();
      index.tensors = merge_tables(tables, world_);
      clean_interrupted_saves(root_);
      temporary_ = make_temporary_directory(root_, iteration_);
      return json(temporary_.string());
    });
    temporary_ = directories[0].get<std::string>();
    const auto written = run([&] {
      announce(SaveStage::shard);
      return write_shard(plan, file);
    });
    run([&] {
      if (world_.is_first()) finish(index, written);
      return json();
    });
    SavedCheckpoint saved{root_ / iteration_directory_name(iteration_), 0};
    for (const auto& part : written) saved.bytes += part["bytes"].get<int64_t>();
    return saved;
  }

 private:
  void announce(SaveStage stage) const {
    if (options_.on_stage) options_.on_stage(stage);
  }

  template <typename Step>
  std::vector<json> run(Step&& step) {
    auto outcome = run_on_all_ranks(world_, step);
    if (outcome.failure) {
      if (world_.is_first() && !temporary_.empty()) {
        std::error_code ignored;  // the next save removes leftovers
        fs::remove_all(temporary_, ignored);
      }
      world_.barrier();  // the directory is removed before any rank reports
      fail("Expected to save iteration {} in {}, but {}", iteration_, root_.string(),
           *outcome.failure);
    }
    return std::move(outcome.values);
  }

  json write_shard(const ShardPlan& plan, const std::string& file) const {
    WrittenSafetensors written;
    json names = json::array();
    if (!plan.tensors.empty()) {
      written = write_safetensors(temporary_ / file, plan.tensors,
                                  {{"format", "pt"}, {"iteration", std::to_string(iteration_)}});
      for (const auto& tensor : plan.tensors) names.push_back(tensor.name);
    }
    return {
        {"file", file}, {"bytes", written.bytes}, {"names", names}, {"xxh3", written.checksums}};
  }

  void finish(CheckpointIndex& index, const std::vector<json>& written) {
    announce(SaveStage::index);
    fill_checksums(index, written, world_);
    if (options_.add_files) options_.add_files(temporary_);
    write_file_durably(temporary_ / kIndexFile, index_to_text(index));
    announce(SaveStage::publish);
    publish_directory(root_, iteration_, temporary_);
    announce(SaveStage::tracker);
    write_tracker(root_, iteration_);
  }

  const fs::path root_;
  const int64_t iteration_;
  const ProcessGroup& world_;
  const SaveOptions& options_;
  fs::path temporary_;
};

}  // namespace

void check_can_save(const std::filesystem::path& root, const ProcessGroup& world) {
  std::error_code error;
  std::filesystem::create_directories(root, error);
  check(std::filesystem::is_directory(root),
        "Expected --save to name a directory that can be created, but got '{}' ({}); give another",
        root.string(), error ? error.message() : "it is not a directory");
  const std::filesystem::path probe = root / fmt::format(".probe.{}", world.rank());
  try {
    FileWriter writer(probe);
    writer.write("\n", 1);
    writer.finish();
  } catch (const Error& reason) {
    std::filesystem::remove(probe, error);
    fail("Expected --save to name a writable directory, but got '{}': {}", root.string(),
         reason.what());
  }
  std::filesystem::remove(probe, error);
}

SavedCheckpoint save_checkpoint(const fs::path& root, int64_t iteration,
                                const ShardedStateDict& state, const json& common,
                                const ProcessGroup& world, const SaveOptions& options) {
  return CheckpointSaver(root, iteration, world, options).save(state, common);
}

}  // namespace megatron
