// The metadata of a GGUF file: typed values by name, in the order of the file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace megatron {

// An array; the alternatives are those of GgufValue, in the same order.
struct GgufArray {
  std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>,
               std::vector<int16_t>, std::vector<uint32_t>, std::vector<int32_t>,
               std::vector<float>, std::vector<bool>, std::vector<std::string>,
               std::vector<GgufArray>, std::vector<uint64_t>, std::vector<int64_t>,
               std::vector<double>>
      values;
  size_t size() const;
  bool operator==(const GgufArray&) const = default;
};

// The index of the alternative is the format's number of the type.
using GgufValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool,
                               std::string, GgufArray, uint64_t, int64_t, double>;

// "UINT32", "ARRAY of STRING".
std::string gguf_type_name(const GgufValue& value);

class GgufMetadata {
 public:
  explicit GgufMetadata(std::string source = "GGUF metadata") : source_(std::move(source)) {}

  using Entry = std::pair<std::string, GgufValue>;
  const std::vector<Entry>& entries() const { return entries_; }
  // The file, for messages.
  const std::string& source() const { return source_; }

  // Null if there is none.
  const GgufValue* find(const std::string& key) const;
  bool contains(const std::string& key) const { return find(key) != nullptr; }

  // The functions below read integers of every width and floating point of both, and throw Error for
  // another type, for an integer that does not fit 63 bits, and, without `otherwise`, for a missing
  // key.
  int64_t integer(const std::string& key, std::optional<int64_t> otherwise = std::nullopt) const;
  double real(const std::string& key, std::optional<double> otherwise = std::nullopt) const;
  bool boolean(const std::string& key, std::optional<bool> otherwise = std::nullopt) const;
  std::string text(const std::string& key,
                   std::optional<std::string> otherwise = std::nullopt) const;

  // Arrays, which must exist. A single number is read as an array of `repeated` equal ones, if that
  // is not 0, as files give numbers of heads per layer or once.
  std::vector<int64_t> integers(const std::string& key, size_t repeated = 0) const;
  std::vector<double> reals(const std::string& key) const;
  std::vector<bool> booleans(const std::string& key) const;
  const std::vector<std::string>& texts(const std::string& key) const;

  // Adds an entry. Throws Error if the key is taken.
  void add(std::string key, GgufValue value);
  // Adds an entry whose key is known to be new.
  void append(std::string key, GgufValue value) {
    entries_.emplace_back(std::move(key), std::move(value));
  }

 private:
  const GgufValue& required(const std::string& key) const;
  [[noreturn]] void refuse(const std::string& key, const GgufValue& value,
                           const char* expected) const;

  std::string source_;
  std::vector<Entry> entries_;
};

}  // namespace megatron
