// Damages files that other programs write and hands them to the readers: safetensors, its index, GGUF,
// config.json, tokenizers. A reader must load the file or throw megatron::Error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

namespace megatron {

class ReaderFuzzer {
 public:
  // `golden` holds intact files: tests/golden. `scratch` is a folder for the damaged ones.
  ReaderFuzzer(const std::filesystem::path& golden, const std::filesystem::path& scratch);

  int64_t num_files() const { return std::ssize(files_); }
  // Damages one file, as `seed` says, and reads it. Returns what went wrong, with the name of the
  // intact file; empty if nothing did. The damaged file stays in `scratch` until the next round.
  std::string round(uint64_t seed);
  // Damaged files that were refused, and that loaded nevertheless.
  int64_t refused() const { return refused_; }
  int64_t loaded() const { return loaded_; }

 private:
  enum class Kind { safetensors, index, gguf, config, tokenizer };
  struct IntactFile {
    std::filesystem::path path;
    Kind kind;
    std::string content;
  };

  void add(const std::filesystem::path& path, Kind kind);
  std::string damaged(const IntactFile& file, std::mt19937_64& random) const;
  void read(const IntactFile& file, const std::string& content) const;

  std::filesystem::path scratch_;
  std::vector<IntactFile> files_;
  int64_t refused_ = 0, loaded_ = 0;
};

}  // namespace megatron
