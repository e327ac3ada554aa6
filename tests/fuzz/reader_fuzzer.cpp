#include "tests/fuzz/reader_fuzzer.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <fstream>
#include <sstream>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/convert/gguf_config.h"
#include "megatron/convert/hf_family.h"
#include "megatron/convert/hf_tensors.h"
#include "megatron/formats/gguf_file.h"
#include "megatron/formats/json_file.h"
#include "megatron/formats/safetensors_file.h"
#include "megatron/tokenizers/gguf_tokenizer.h"
#include "megatron/tokenizers/tokenizer_folder.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostDecoded = 1 << 20;  // elements

std::string slurp_file(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

void spill_file(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

// Numbers at which sizes, counts and offsets go wrong.
uint64_t strange_number(std::mt19937_64& random) {
  static constexpr uint64_t kNumbers[] = {
      0,          1,           2,          7,          255,        65535, 0x7FFFFFFF, 0x80000000,
      0xFFFFFFFF, 0x100000000, 1ull << 40, 1ull << 62, 1ull << 63, ~0ull, ~0ull - 7,  ~0ull >> 1};
  return kNumbers[random() % std::size(kNumbers)];
}

// The part of a file that describes the rest lies at its start.
size_t place_in(const std::string& content, std::mt19937_64& random) {
  const size_t bytes = std::max<size_t>(content.size(), 1);
  const size_t header = std::min<size_t>(bytes, random() % 3 == 0 ? bytes : 4096);
  return random() % header;
}

void damage_bytes(std::string& content, std::mt19937_64& random) {
  const size_t at = place_in(content, random);
  const size_t width = random() % 2 == 0 ? 4 : 8;
  switch (random() % 8) {
    case 0:
      if (!content.empty()) content[at] = static_cast<char>(content[at] ^ (1 << (random() % 8)));
      return;
    case 1:
      if (!content.empty()) content[at] = static_cast<char>(random());
      return;
    case 2:
    case 3: {
      const uint64_t number = strange_number(random);
      if (at + width <= content.size()) std::memcpy(content.data() + at, &number, width);
      return;
    }
    case 4: {  // a number that is there, and a little more or less
      if (at + width > content.size()) return;
      uint64_t number = 0;
      std::memcpy(&number, content.data() + at, width);
      number += random() % 5 - 2;
      std::memcpy(content.data() + at, &number, width);
      return;
    }
    case 5:
      content.resize(at);
      return;
    case 6:
      content.erase(at, random() % 16);
      return;
    default:
      content.insert(at, content.substr(place_in(content, random), random() % 32));
  }
}

// Replaces a number or a word of a text.
void damage_text(std::string& content, std::mt19937_64& random) {
  static constexpr const char* kWords[] = {"0",
                                           "-1",
                                           "1e308",
                                           "18446744073709551615",
                                           "9223372036854775807",
                                           "4294967296",
                                           "null",
                                           "true",
                                           "\"\"",
                                           "[]",
                                           "{}",
                                           "\"a\"",
                                           "[[[[[[",
                                           "\\ud800",
                                           "\"\\u0000\"",
                                           ",",
                                           "]",
                                           "}",
                                           "\xff\xfe"};
  const size_t begin = place_in(content, random);
  size_t at = content.find_first_of("0123456789\"[{", begin);
  if (at == std::string::npos) return damage_bytes(content, random);
  size_t end = at + 1;
  if (std::isdigit(static_cast<unsigned char>(content[at])) != 0) {
    while (end < content.size() && std::isdigit(static_cast<unsigned char>(content[end])) != 0)
      ++end;
  } else if (content[at] == '"') {
    end = std::min(content.find('"', at + 1), content.size() - 1) + 1;
  }
  content.replace(at, end - at, kWords[random() % std::size(kWords)]);
}

void use(const Tokenizer& tokenizer) {
  const auto ids =
      tokenizer.encode("Hello  world 123,\n\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80 <s>\x01");
  tokenizer.decode(ids);
  for (const int64_t id : ids) tokenizer.token_bytes(id);
}

void read_config(const nlohmann::json& config) {
  const HfFamily& family = find_hf_family(config, "config.json");
  const GPTModelConfig model = read_hf_config(family, config, "config.json");
  write_hf_config(family, model);
}

void read_gguf(const fs::path& path) {
  const GgufFile file = GgufFile::open(path);
  for (const std::string& name : file.names()) {
    int64_t elements = 1;
    for (const int64_t size : file.entry(name).shape) elements *= size;
    if (elements <= kMostDecoded) file.tensor(name);
  }
  // Each part is read even if another is refused.
  std::string refused;
  const auto part = [&](const auto& body) {
    try {
      body();
    } catch (const Error& error) {
      refused = error.what();
    }
  };
  part([&] { use(*make_gguf_tokenizer(file.metadata(), /*special_tokens=*/true)); });
  part([&] { tokenizer_files_of_gguf(file.metadata()); });
  part([&] { generation_config_of_gguf(file.metadata()); });
  part([&] {
    const auto& architecture =
        gguf_architecture(file.metadata().text("general.architecture", ""), path.string());
    read_config(hf_config_of_gguf(header_of_gguf(file), architecture));
  });
  check(refused.empty(), "{}", refused);
}

}  // namespace

ReaderFuzzer::ReaderFuzzer(const fs::path& golden, const fs::path& scratch) : scratch_(scratch) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(golden)) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  for (const fs::path& path : paths) {
    const std::string name = path.filename().string(), folder = path.parent_path().filename();
    const bool is_hf = path.parent_path().parent_path().filename() == "hf";
    if (name.ends_with(".gguf")) add(path, Kind::gguf);
    if (is_hf && name == "model.safetensors") add(path, Kind::safetensors);
    if (is_hf && name.starts_with("config")) add(path, Kind::config);
    if (is_hf && name == "tokenizer.json") add(path, Kind::tokenizer);
    const bool is_list = name.find("samples") != std::string::npos || name == "expected.json" ||
                         name == "kinds.json";
    if (folder == "tokenizer" && !is_list && (name.ends_with(".json") || name.ends_with(".model")))
      add(path, Kind::tokenizer);
  }
  check(!files_.empty(), "Expected intact files in {}, but got none", golden.string());
  const nlohmann::json index = {
      {"metadata", {{"total_size", 8}}},
      {"weight_map", {{"a", "model-00001.safetensors"}, {"b", "model-00001.safetensors"}}}};
  files_.push_back({"model.safetensors.index.json", Kind::index, index.dump(1)});
}

void ReaderFuzzer::add(const fs::path& path, Kind kind) {
  files_.push_back({path, kind, slurp_file(path)});
}

std::string ReaderFuzzer::damaged(const IntactFile& file, std::mt19937_64& random) const {
  std::string content = file.content;
  const bool is_text =
      file.kind == Kind::config || file.kind == Kind::index || file.path.extension() == ".json";
  // A safetensors header is text behind a length of 8 bytes.
  const bool has_text = is_text || file.kind == Kind::safetensors;
  const uint64_t times = 1 + random() % 4;
  for (uint64_t i = 0; i < times; ++i) {
    if (has_text && random() % 2 == 0) {
      damage_text(content, random);
    } else {
      damage_bytes(content, random);
    }
  }
  // Half of the headers have the length that their text has after the damage.
  if (file.kind == Kind::safetensors && content.size() > 8 && random() % 2 == 0) {
    const size_t end = content.find("}}", 8);
    const uint64_t length = end == std::string::npos ? content.size() - 8 : end + 2 - 8;
    std::memcpy(content.data(), &length, sizeof(length));
  }
  return content;
}

void ReaderFuzzer::read(const IntactFile& file, const std::string& content) const {
  fs::remove_all(scratch_);
  fs::create_directories(scratch_);
  switch (file.kind) {
    case Kind::safetensors: {
      spill_file(scratch_ / "model.safetensors", content);
      HfTensors tensors = HfTensors::open(scratch_);
      for (const std::string& name : tensors.names()) {
        const std::vector<int64_t>& shape = tensors.find(name)->shape;
        if (shape_volume(shape) <= kMostDecoded) tensors.read(name, whole_rectangle(shape)).clone();
      }
      return;
    }
    case Kind::index:
      spill_file(scratch_ / "model.safetensors.index.json", content);
      HfTensors::open(scratch_);
      return;
    case Kind::gguf:
      spill_file(scratch_ / "model.gguf", content);
      return read_gguf(scratch_ / "model.gguf");
    case Kind::config:
      spill_file(scratch_ / "config.json", content);
      return read_config(read_json_file((scratch_ / "config.json").string(), "a configuration"));
    case Kind::tokenizer: {
      const bool is_json = file.path.extension() == ".json";
      spill_file(scratch_ / (is_json ? "tokenizer.json" : "tokenizer.model"), content);
      return use(*load_hugging_face_tokenizer(scratch_.string(), /*special_tokens=*/true));
    }
  }
}

std::string ReaderFuzzer::round(uint64_t seed) {
  std::mt19937_64 random(seed);
  const IntactFile& file = files_[random() % files_.size()];
  const std::string content = damaged(file, random);
  try {
    read(file, content);
    ++loaded_;
  } catch (const Error&) {
    ++refused_;
  } catch (const std::exception& error) {
    return fmt::format("seed {}: {} with other bytes: {}", seed, file.path.string(), error.what());
  }
  return "";
}

}  // namespace megatron
