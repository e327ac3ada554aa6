#include "megatron/checkpoint/checkpoint_index.h"

#include <algorithm>
#include <functional>

#include "megatron/base/error.h"
#include "megatron/formats/checksum.h"
#include "megatron/formats/safetensors_format.h"

namespace megatron {
namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "megatron.cpp checkpoint";
constexpr int64_t kFormatVersion = 1;

std::string compact_text(const json& document) {
  return document.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
}

// Checksum of the compact text, which does not depend on the layout of the parsed text.
std::string checksum_of(const json& document) {
  const std::string text = compact_text(document);
  return checksum_hex(text.data(), text.size());
}

// JSON with one line per entry, for readability.
std::string entry_per_line(const json& object,
                           const std::function<std::string(const json&)>& value_text) {
  std::string text = "{";
  for (const auto& [key, value] : object.items()) {
    text += text.size() > 1 ? ",\n" : "\n";
    text += compact_text(key) + ":" + value_text(value);
  }
  return text + "\n}";
}

CheckpointIndex parse_index(const json& document) {
  CheckpointIndex index;
  index.iteration = document.at("iteration").get<int64_t>();
  index.common = document.at("common");
  for (const auto& [name, file] : document.at("files").items()) {
    check(name == std::filesystem::path(name).filename(),
          "Expected the name of a shard next to the index, but got '{}'", name);
    index.files[name] = {file.at("bytes").get<int64_t>(), file.at("rank").get<int>()};
  }
  index.tensors = tensors_from_json(document.at("tensors"));
  for (const auto& [key, tensor] : index.tensors) {
    std::vector<Rectangle> regions;
    for (const auto& chunk : tensor.chunks) {
      check(index.files.count(chunk.file) > 0, "Expected file '{}' of '{}' under \"files\"",
            chunk.file, key);
      regions.push_back(chunk.region);
    }
    check_tiling(key, tensor.shape, std::move(regions));
  }
  return index;
}

}  // namespace

json tensors_to_json(const CheckpointTensors& tensors) {
  json result = json::object();
  for (const auto& [key, tensor] : tensors) {
    json chunks = json::array();
    for (const auto& chunk : tensor.chunks) {
      chunks.push_back({{"file", chunk.file},
                        {"name", chunk.name},
                        {"offset", chunk.region.offset},
                        {"shape", chunk.region.shape},
                        {"xxh3", chunk.checksum}});
    }
    result[key] = {{"dtype", safetensors_dtype_name(tensor.dtype)},
                   {"shape", tensor.shape},
                   {"chunks", std::move(chunks)}};
  }
  return result;
}

CheckpointTensors tensors_from_json(const json& list) {
  CheckpointTensors tensors;
  for (const auto& [key, item] : list.items()) {
    const auto dtype_name = item.at("dtype").get<std::string>();
    const auto dtype = safetensors_dtype(dtype_name);
    check(dtype.has_value(), "Expected a supported data type for '{}', but got '{}'", key,
          dtype_name);
    CheckpointTensor tensor{*dtype, item.at("shape").get<std::vector<int64_t>>(), {}};
    for (const auto& chunk : item.at("chunks")) {
      tensor.chunks.push_back({chunk.at("file").get<std::string>(),
                               chunk.at("name").get<std::string>(),
                               {chunk.at("offset").get<std::vector<int64_t>>(),
                                chunk.at("shape").get<std::vector<int64_t>>()},
                               chunk.at("xxh3").get<std::string>()});
    }
    tensors.emplace(key, std::move(tensor));
  }
  return tensors;
}

std::string index_to_text(const CheckpointIndex& index) {
  json files = json::object();
  for (const auto& [name, file] : index.files) {
    files[name] = {{"bytes", file.bytes}, {"rank", file.rank}};
  }
  json document = {{"format", kFormat},
                   {"format_version", kFormatVersion},
                   {"iteration", index.iteration},
                   {"common", index.common},
                   {"files", std::move(files)},
                   {"tensors", tensors_to_json(index.tensors)}};
  document["xxh3"] = checksum_of(document);
  const auto lists = {&document["files"], &document["tensors"]};
  return entry_per_line(
             document,
             [&](const json& value) {
               const bool is_list = std::find(lists.begin(), lists.end(), &value) != lists.end();
               return is_list ? entry_per_line(value, compact_text) : compact_text(value);
             }) +
         "\n";
}

CheckpointIndex index_from_text(std::string_view text, const std::filesystem::path& path) {
  auto document = json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  check(
      document.is_object() && document.contains("format") && document["format"] == kFormat,
      "Expected a checkpoint index in {}, but the file is damaged or another kind of file; load an "
      "earlier checkpoint",
      path.string());
  check(document.contains("xxh3"), "Expected a checksum in {}, but it has none", path.string());
  const json expected = document["xxh3"];
  document.erase("xxh3");
  const std::string actual = checksum_of(document);
  check(expected == actual,
        "Expected checksum {} in {}, but its content has {}: it was damaged or edited; load an "
        "earlier checkpoint",
        expected.dump(), path.string(), actual);
  try {
    const auto version = document.at("format_version").get<int64_t>();
    check(version == kFormatVersion, "Expected format version {}, but got {}", kFormatVersion,
          version);
    return parse_index(document);
  } catch (const std::exception& error) {
    fail("Expected a checkpoint index in {}, but got: {}", path.string(), error.what());
  }
}

}  // namespace megatron
