#include "megatron/formats/gguf_metadata.h"

#include <algorithm>
#include <type_traits>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"

namespace megatron {
namespace {

constexpr const char* kGgufTypeNames[] = {"UINT8",  "INT8",    "UINT16", "INT16",  "UINT32",
                                          "INT32",  "FLOAT32", "BOOL",   "STRING", "ARRAY",
                                          "UINT64", "INT64",   "FLOAT64"};

template <typename T>
constexpr bool is_integer = std::is_integral_v<T> && !std::is_same_v<T, bool>;

// None for another type or an integer beyond 63 bits.
std::optional<int64_t> integer_of(const GgufValue& value) {
  return std::visit(
      [](const auto& held) -> std::optional<int64_t> {
        using T = std::decay_t<decltype(held)>;
        if constexpr (is_integer<T>) {
          if (std::is_same_v<T, uint64_t> && held > static_cast<T>(INT64_MAX)) return std::nullopt;
          return static_cast<int64_t>(held);
        }
        return std::nullopt;
      },
      value);
}

}  // namespace

size_t GgufArray::size() const {
  return std::visit([](const auto& held) { return held.size(); }, values);
}

std::string gguf_type_name(const GgufValue& value) {
  const std::string name = kGgufTypeNames[value.index()];
  const auto* array = std::get_if<GgufArray>(&value);
  return array == nullptr ? name : name + " of " + kGgufTypeNames[array->values.index()];
}

const GgufValue* GgufMetadata::find(const std::string& key) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.first == key; });
  return found == entries_.end() ? nullptr : &found->second;
}

const GgufValue& GgufMetadata::required(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) {
    std::vector<std::string> keys;
    for (const auto& [name, unused] : entries_) keys.push_back(name);
    fail("Expected metadata '{}' in {}, but it has none{}", key, source_,
         keys.empty() ? "" : fmt::format("; the nearest is '{}'", nearest_name(key, keys)));
  }
  return *value;
}

void GgufMetadata::refuse(const std::string& key, const GgufValue& value,
                          const char* expected) const {
  fail("Expected '{}' of {} to be {}, but its type is {}", key, source_, expected,
       gguf_type_name(value));
}

int64_t GgufMetadata::integer(const std::string& key, std::optional<int64_t> otherwise) const {
  if (otherwise && !contains(key)) return *otherwise;
  const GgufValue& value = required(key);
  const auto integer = integer_of(value);
  if (!integer) refuse(key, value, "an integer of at most 63 bits");
  return *integer;
}

double GgufMetadata::real(const std::string& key, std::optional<double> otherwise) const {
  if (otherwise && !contains(key)) return *otherwise;
  const GgufValue& value = required(key);
  if (const auto* single = std::get_if<float>(&value)) return *single;
  if (const auto* wide = std::get_if<double>(&value)) return *wide;
  const auto integer = integer_of(value);
  if (!integer) refuse(key, value, "a number");
  return static_cast<double>(*integer);
}

bool GgufMetadata::boolean(const std::string& key, std::optional<bool> otherwise) const {
  if (otherwise && !contains(key)) return *otherwise;
  const GgufValue& value = required(key);
  const auto* held = std::get_if<bool>(&value);
  if (held == nullptr) refuse(key, value, "a BOOL");
  return *held;
}

std::string GgufMetadata::text(const std::string& key, std::optional<std::string> otherwise) const {
  if (otherwise && !contains(key)) return *otherwise;
  const GgufValue& value = required(key);
  const auto* held = std::get_if<std::string>(&value);
  if (held == nullptr) refuse(key, value, "a STRING");
  return *held;
}

std::vector<int64_t> GgufMetadata::integers(const std::string& key, size_t repeated) const {
  const GgufValue& value = required(key);
  if (const auto single = integer_of(value); single && repeated > 0) {
    return std::vector<int64_t>(repeated, *single);
  }
  const auto* array = std::get_if<GgufArray>(&value);
  if (array == nullptr) refuse(key, value, "an array of integers");
  std::vector<int64_t> result;
  std::visit(
      [&](const auto& held) {
        using T = typename std::decay_t<decltype(held)>::value_type;
        if constexpr (is_integer<T>) {
          for (const T item : held) {
            const auto integer = integer_of(item);
            if (!integer) refuse(key, value, "an array of integers of at most 63 bits");
            result.push_back(*integer);
          }
        } else {
          refuse(key, value, "an array of integers");
        }
      },
      array->values);
  return result;
}

std::vector<double> GgufMetadata::reals(const std::string& key) const {
  const GgufValue& value = required(key);
  const auto* array = std::get_if<GgufArray>(&value);
  if (array == nullptr) refuse(key, value, "an array of numbers");
  if (const auto* single = std::get_if<std::vector<float>>(&array->values)) {
    return {single->begin(), single->end()};
  }
  const auto* wide = std::get_if<std::vector<double>>(&array->values);
  if (wide == nullptr) refuse(key, value, "an array of floating-point numbers");
  return *wide;
}

std::vector<bool> GgufMetadata::booleans(const std::string& key) const {
  const GgufValue& value = required(key);
  const auto* array = std::get_if<GgufArray>(&value);
  const auto* held = array ? std::get_if<std::vector<bool>>(&array->values) : nullptr;
  if (held == nullptr) refuse(key, value, "an ARRAY of BOOL");
  return *held;
}

const std::vector<std::string>& GgufMetadata::texts(const std::string& key) const {
  const GgufValue& value = required(key);
  const auto* array = std::get_if<GgufArray>(&value);
  const auto* held = array ? std::get_if<std::vector<std::string>>(&array->values) : nullptr;
  if (held == nullptr) refuse(key, value, "an ARRAY of STRING");
  return *held;
}

void GgufMetadata::add(std::string key, GgufValue value) {
  check(!contains(key), "Expected each metadata key once in {}, but got '{}' twice", source_, key);
  entries_.emplace_back(std::move(key), std::move(value));
}

}  // namespace megatron
