#include "megatron/data/gpt_dataset_cache.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>
#include <xxhash.h>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/data/md5.h"
#include "megatron/formats/npy.h"
#include "megatron/formats/output_file.h"

namespace megatron {
namespace {

std::string hash_text(XXH64_hash_t hash) {
  return fmt::format("{:016x}", hash);
}

template <typename T>
std::string checksum(std::span<const T> values) {
  return hash_text(XXH3_64bits(values.data(), values.size_bytes()));
}

// A checksum of what the indices depend on besides Megatron's description: document lengths and two
// settings.
std::string request_checksum(const LowLevelDataset& data, const GPTDatasetIndexRequest& request) {
  XXH3_state_t* state = XXH3_createState();
  XXH3_64bits_reset(state);
  std::vector<int32_t> lengths;
  const auto flush = [&] {
    XXH3_64bits_update(state, lengths.data(), lengths.size() * sizeof(int32_t));
    lengths.clear();
  };
  for (const int32_t sequence : request.sequences) {
    lengths.push_back(sequence);
    lengths.push_back(data.sequence_length(sequence));
    if (lengths.size() >= 65536) flush();
  }
  lengths.push_back(request.add_extra_token);
  lengths.push_back(request.drop_last_partial_sequence);
  flush();
  const XXH64_hash_t hash = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return hash_text(hash);
}

nlohmann::json cache_checksums(const std::string& request, const GPTDatasetIndex& index) {
  return {{"request", request},
          {"document_index", checksum(index.document_index)},
          {"sample_index", checksum(index.sample_index)},
          {"shuffle_index", checksum(index.shuffle_index)}};
}

template <typename T>
std::span<const T> view_of(const NpyArray& array) {
  return {reinterpret_cast<const T*>(array.values.data()), static_cast<size_t>(array.rows)};
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

GPTDatasetIndex load_index(const std::string& stem, const std::string& request,
                           const std::string& description) {
  check(read_file(stem + "description.txt") == description,
        "Expected {}description.txt to describe this dataset", stem);
  auto files = std::make_shared<std::array<NpyArray, 3>>();
  (*files)[0] = read_npy(stem + "document_index.npy", "<i4", 0);
  (*files)[1] = read_npy(stem + "sample_index.npy", "<i4", 2);
  (*files)[2] = read_npy(stem + "shuffle_index.npy", "<u4", 0);
  GPTDatasetIndex index;
  index.document_index = view_of<int32_t>((*files)[0]);
  index.sample_index = view_of<SampleStart>((*files)[1]);
  index.shuffle_index = view_of<uint32_t>((*files)[2]);
  index.storage = std::move(files);
  const auto stored = nlohmann::json::parse(read_file(stem + "checksum.json"), nullptr,
                                            /*allow_exceptions=*/false);
  check(stored == cache_checksums(request, index),
        "Expected {}*.npy to have the checksums of {}checksum.json", stem, stem);
  return index;
}

void write_text(const std::string& path, const std::string& text) {
  OutputFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

void write_index(const std::string& stem, const std::string& request,
                 const std::string& description, const GPTDatasetIndex& index) {
  // Files without checksums are ignored, so checksum.json is removed first and written last.
  std::error_code ignored;
  std::filesystem::remove(stem + "checksum.json", ignored);
  write_text(stem + "description.txt", description);
  write_npy(stem + "document_index.npy", "<i4", std::ssize(index.document_index), 0,
            std::as_bytes(index.document_index));
  write_npy(stem + "sample_index.npy", "<i4", std::ssize(index.sample_index), 2,
            std::as_bytes(index.sample_index));
  write_npy(stem + "shuffle_index.npy", "<u4", std::ssize(index.shuffle_index), 0,
            std::as_bytes(index.shuffle_index));
  write_text(stem + "checksum.json", cache_checksums(request, index).dump(2) + "\n");
}

}  // namespace

std::string gpt_dataset_cache_folder(const std::string& data_cache_path,
                                     const std::string& data_prefix) {
  if (!data_cache_path.empty()) return data_cache_path;
  const auto folder = std::filesystem::path(data_prefix).parent_path();
  return (folder / "cache" / "GPTDataset_indices").string();
}

std::string gpt_dataset_description(const std::string& dataset_path,
                                    const GPTDatasetIndexRequest& request, Split split,
                                    const std::string& split_text,
                                    const std::string& tokenizer_identifiers) {
  using Json = nlohmann::ordered_json;
  Json matrix = Json::array();
  for (const auto& shares : split_text.empty() ? SplitMatrix() : parse_split(split_text)) {
    if (!shares) {
      matrix.push_back(nullptr);
      continue;
    }
    // Python's running sum starts from the integer 0.
    matrix.push_back({shares->first == 0 ? Json(0) : Json(shares->first), shares->second});
  }
  Json description;
  description["class"] = "GPTDataset";
  description["dataset_path"] = dataset_path;
  description["num_samples"] = request.num_samples ? Json(*request.num_samples) : Json(nullptr);
  description["index_split"] = split_name(split);
  description["random_seed"] = request.seed;
  description["sequence_length"] = request.sequence_length;
  description["split"] = split_text.empty() ? Json(nullptr) : Json(split_text);
  description["split_matrix"] = split_text.empty() ? Json(nullptr) : std::move(matrix);
  description["tokenizer"] = Json::parse(tokenizer_identifiers);
  return description.dump(4, ' ', /*ensure_ascii=*/true);
}

GPTDatasetIndex load_or_build_gpt_dataset_index(const LowLevelDataset& data,
                                                const GPTDatasetIndexRequest& request,
                                                const GPTDatasetCacheRequest& cache) {
  if (cache.folder.empty()) return build_gpt_dataset_index(data, request);
  const std::string stem = fmt::format("{}/{}-GPTDataset-{}-", cache.folder,
                                       md5_hex(cache.description), split_name(cache.split));
  const std::string expected = request_checksum(data, request);
  if (std::filesystem::exists(stem + "checksum.json")) {
    try {
      return load_index(stem, expected, cache.description);
    } catch (const Error& error) {
      if (cache.note) cache.note(fmt::format("rebuilding a dataset index: {}", error.what()));
    }
  }
  GPTDatasetIndex index = build_gpt_dataset_index(data, request);
  if (!cache.may_write) return index;
  try {
    write_index(stem, expected, cache.description, index);
    return load_index(stem, expected, cache.description);
  } catch (const Error& error) {
    if (cache.note) {
      cache.note(
          fmt::format("the dataset index of the {} split is not stored, so that every rank builds "
                      "it in memory: {}; --data-cache-path names another folder",
                      split_name(cache.split), error.what()));
    }
  }
  return index;
}

}  // namespace megatron
