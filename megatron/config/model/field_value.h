// Type-erased references to fields of configurations: parsing from text or JSON, and formatting.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include <c10/core/ScalarType.h>
#include <nlohmann/json_fwd.hpp>

#include "megatron/config/model/enum_names.h"

namespace megatron {

// A field of an enumeration type, or of an optional one. Values are indices into `names`; -1 is not
// set.
struct EnumReference {
  void* field = nullptr;
  int (*get)(const void* field) = nullptr;
  void (*set)(void* field, int index) = nullptr;
  std::span<const std::string_view> names;
  bool is_optional = false;
};

// A field of another type, read and written as JSON. `subject` names it in messages.
struct JsonReference {
  void* field = nullptr;
  std::function<nlohmann::json()> get;
  std::function<void(const nlohmann::json& json, std::string_view subject)> set;
};

using FieldValue =
    std::variant<bool*, int64_t*, double*, std::string*, at::ScalarType*, std::optional<bool>*,
                 std::optional<int64_t>*, std::optional<double>*, std::optional<at::ScalarType>*,
                 std::vector<std::string>*, std::vector<int64_t>*, std::vector<double>*,
                 EnumReference, JsonReference>;

template <typename T>
struct IsOptionalEnum : std::false_type {};
template <typename T>
struct IsOptionalEnum<std::optional<T>>
    : std::bool_constant<std::is_enum_v<T> && !std::is_same_v<T, at::ScalarType>> {};

template <typename T>
FieldValue field_value(T& field) {
  if constexpr (std::is_enum_v<T> && !std::is_same_v<T, at::ScalarType>) {
    return EnumReference{
        &field, [](const void* f) { return static_cast<int>(*static_cast<const T*>(f)); },
        [](void* f, int index) { *static_cast<T*>(f) = static_cast<T>(index); }, enum_names<T>};
  } else if constexpr (IsOptionalEnum<T>::value) {
    using Enum = typename T::value_type;
    return EnumReference{&field,
                         [](const void* f) {
                           const T& value = *static_cast<const T*>(f);
                           return value ? static_cast<int>(*value) : -1;
                         },
                         [](void* f, int index) {
                           T& value = *static_cast<T*>(f);
                           if (index < 0) {
                             value.reset();
                           } else {
                             value = static_cast<Enum>(index);
                           }
                         },
                         enum_names<Enum>, /*is_optional=*/true};
  } else {
    return &field;
  }
}

// Assigns the field from the text of a flag or a YAML scalar; appends to a list. A list of numbers
// may be one text: "7,0" or "7 0". A list of integers may repeat and join lists as in Python:
// "([0]*3+[1]*58)". `subject` names the field in messages. Throws UsageError if the
// text is not valid.
void set_from_text(const FieldValue& value, std::string_view text, std::string_view subject);

// Empties a list.
void clear_list(const FieldValue& value);

// Assigns the field from JSON. Only optional fields and lists accept null. A list may be its only
// entry, and a list of integers a text as above.
void set_from_json(const FieldValue& value, const nlohmann::json& json, std::string_view subject);

nlohmann::json to_json(const FieldValue& value);

// A value as text: 0.1, true, rope, "a b"; a dash if it is not set.
std::string to_text(const FieldValue& value);

bool is_bool(const FieldValue& value);
bool is_number(const FieldValue& value);
bool is_list(const FieldValue& value);

// Placeholder of the value in help texts: N, X, TEXT, or the choices a|b|c.
std::string type_hint(const FieldValue& value);

}  // namespace megatron
