#include "megatron/config/model/field_value.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "megatron/base/dtype.h"
#include "megatron/base/usage_error.h"

namespace megatron {
namespace {

constexpr std::string_view kDtypeNames[] = {"fp32", "bf16", "fp16", "fp64"};

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};

template <typename T>
struct Unwrapped {
  using type = T;
};
template <typename T>
struct Unwrapped<std::optional<T>> {
  using type = T;
};

[[noreturn]] void fail_value(std::string_view expected, std::string_view subject,
                             std::string_view got) {
  throw UsageError(fmt::format("Expected {} for {}, but got '{}'", expected, subject, got));
}

template <typename Number>
Number parse_number(std::string_view text, std::string_view subject) {
  constexpr bool whole = std::is_same_v<Number, int64_t>;
  constexpr std::string_view expected = whole ? "an integer" : "a number";
  Number number{};
  std::string_view digits = text;
  if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.remove_prefix(1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error == std::errc::result_out_of_range && end == digits.data() + digits.size()) {
    fail_value(whole ? "a 64-bit integer" : "a number in the range of double", subject, text);
  }
  if (error != std::errc{} || end != digits.data() + digits.size()) {
    fail_value(expected, subject, text);
  }
  if constexpr (!whole) {
    if (!std::isfinite(number)) fail_value("a finite number", subject, text);
  }
  return number;
}

bool parse_bool(std::string_view text, std::string_view subject) {
  for (const std::string_view word : {"true", "True", "yes", "on", "1"}) {
    if (text == word) return true;
  }
  for (const std::string_view word : {"false", "False", "no", "off", "0"}) {
    if (text == word) return false;
  }
  fail_value("true or false", subject, text);
}

at::ScalarType parse_dtype(std::string_view text, std::string_view subject) {
  const std::string expected = fmt::format("one of {}", fmt::join(kDtypeNames, ", "));
  try {
    const at::ScalarType dtype = dtype_from_name(text);
    for (const auto name : kDtypeNames) {
      if (dtype_name(dtype) == name) return dtype;
    }
  } catch (const Error&) {
    fail_value(expected, subject, text);
  }
  fail_value(expected, subject, text);
}

template <typename T>
T parse(std::string_view text, std::string_view subject) {
  if constexpr (std::is_same_v<T, bool>) {
    return parse_bool(text, subject);
  } else if constexpr (std::is_same_v<T, at::ScalarType>) {
    return parse_dtype(text, subject);
  } else if constexpr (std::is_same_v<T, std::string>) {
    return std::string(text);
  } else {
    return parse_number<T>(text, subject);
  }
}

void set_enum(const EnumReference& reference, std::string_view text, std::string_view subject) {
  for (size_t i = 0; i < reference.names.size(); ++i) {
    if (reference.names[i] == text) return reference.set(reference.field, static_cast<int>(i));
  }
  fail_value(fmt::format("one of {}", fmt::join(reference.names, ", ")), subject, text);
}

template <typename T>
T read_json(const nlohmann::json& json, std::string_view subject) {
  if constexpr (std::is_same_v<T, bool>) {
    if (!json.is_boolean()) fail_value("true or false", subject, json.dump());
    return json.get<bool>();
  } else if constexpr (std::is_same_v<T, int64_t>) {
    if (json.is_number_float() && json.get<double>() == std::floor(json.get<double>()) &&
        std::abs(json.get<double>()) < 9e15) {
      return static_cast<int64_t>(json.get<double>());
    }
    if (!json.is_number_integer() ||
        (json.is_number_unsigned() && json.get<uint64_t>() > uint64_t{INT64_MAX})) {
      fail_value("an integer", subject, json.dump());
    }
    return json.get<int64_t>();
  } else if constexpr (std::is_same_v<T, double>) {
    if (!json.is_number()) fail_value("a number", subject, json.dump());
    return json.get<double>();
  } else if constexpr (std::is_same_v<T, at::ScalarType>) {
    if (!json.is_string()) fail_value("the name of a data type", subject, json.dump());
    return parse_dtype(json.get_ref<const std::string&>(), subject);
  } else {
    if (!json.is_string()) fail_value("a string", subject, json.dump());
    return json.get<std::string>();
  }
}

// "7,0", "[7, 0]", Megatron's "(7,0)" or "7".
template <typename Number>
void append_numbers(std::vector<Number>& list, std::string_view text, std::string_view subject) {
  const auto ends_number = [](char c) {
    return std::string_view(", []()").find(c) != std::string_view::npos;
  };
  size_t found = 0;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    for (end = begin; end < text.size() && !ends_number(text[end]);) ++end;
    if (end == begin) continue;
    list.push_back(parse_number<Number>(text.substr(begin, end - begin), subject));
    ++found;
  }
  if (found > 0) return;
  fail_value(std::is_same_v<Number, int64_t> ? "integers, as in 7,0" : "numbers, as in 1,1.5",
             subject, text);
}

// The integers of append_numbers, or lists that are repeated and joined as in Python:
// "([0]*3+[1]*58)".
void append_integers(std::vector<int64_t>& list, std::string_view text, std::string_view subject) {
  if (text.find_first_of("*+") == std::string_view::npos)
    return append_numbers(list, text, subject);
  const auto without = [](std::string_view part) {
    constexpr std::string_view kBlank = " ()";
    const size_t first = part.find_first_not_of(kBlank);
    if (first == std::string_view::npos) return std::string_view();
    return part.substr(first, part.find_last_not_of(kBlank) - first + 1);
  };
  for (std::string_view rest = text; !rest.empty();) {
    const size_t plus = rest.find('+');
    const std::string_view term = without(rest.substr(0, plus));
    rest = plus == std::string_view::npos ? std::string_view() : rest.substr(plus + 1);
    const size_t star = term.find('*');
    const std::string_view repeated = without(term.substr(0, star));
    if (!repeated.starts_with('[') || !repeated.ends_with(']'))
      fail_value("a list such as ([0]*3+[1]*58)", subject, text);
    std::vector<int64_t> once;
    append_numbers(once, repeated, subject);
    const int64_t times = star == std::string_view::npos
                              ? 1
                              : parse_number<int64_t>(without(term.substr(star + 1)), subject);
    if (times < 0 || times > 100'000)
      fail_value("at most 100000 repetitions of a list", subject, text);
    for (int64_t i = 0; i < times; ++i) list.insert(list.end(), once.begin(), once.end());
  }
}

template <typename T>
std::vector<T> read_json_list(const nlohmann::json& json, std::string_view subject) {
  std::vector<T> items;
  if (json.is_null()) return items;
  if (std::is_same_v<T, int64_t> && json.is_string()) {
    if constexpr (std::is_same_v<T, int64_t>)
      append_integers(items, json.get_ref<const std::string&>(), subject);
    return items;
  }
  const bool is_item = std::is_same_v<T, std::string> ? json.is_string() : json.is_number();
  if (is_item) return {read_json<T>(json, subject)};
  if (!json.is_array()) fail_value("a list", subject, json.dump());
  for (const auto& item : json) items.push_back(read_json<T>(item, subject));
  return items;
}

template <typename T>
nlohmann::json write_json(const T& value) {
  if constexpr (std::is_same_v<T, at::ScalarType>) {
    return dtype_name(value);
  } else {
    return value;
  }
}

}  // namespace

void set_from_text(const FieldValue& value, std::string_view text, std::string_view subject) {
  std::visit(Overloaded{[&](const EnumReference& reference) { set_enum(reference, text, subject); },
                        [&](const JsonReference& reference) {
                          const bool is_json = nlohmann::json::accept(text);
                          reference.set(is_json ? nlohmann::json::parse(text)
                                                : nlohmann::json(std::string(text)),
                                        subject);
                        },
                        [&](std::vector<std::string>* list) { list->emplace_back(text); },
                        [&](std::vector<int64_t>* list) { append_integers(*list, text, subject); },
                        [&](std::vector<double>* list) { append_numbers(*list, text, subject); },
                        [&]<typename T>(T* field) {
                          *field = parse<typename Unwrapped<T>::type>(text, subject);
                        }},
             value);
}

void set_from_json(const FieldValue& value, const nlohmann::json& json, std::string_view subject) {
  std::visit(
      Overloaded{
          [&](const EnumReference& reference) {
            if (json.is_null() && reference.is_optional) return reference.set(reference.field, -1);
            set_enum(reference, json.is_string() ? json.get<std::string>() : json.dump(), subject);
          },
          [&](const JsonReference& reference) { reference.set(json, subject); },
          [&]<typename T>(std::vector<T>* list) { *list = read_json_list<T>(json, subject); },
          [&]<typename T>(std::optional<T>* field) {
            if (json.is_null()) {
              field->reset();
            } else {
              *field = read_json<T>(json, subject);
            }
          },
          [&]<typename T>(T* field) { *field = read_json<T>(json, subject); }},
      value);
}

nlohmann::json to_json(const FieldValue& value) {
  return std::visit(
      Overloaded{[](const EnumReference& reference) -> nlohmann::json {
                   const int index = reference.get(reference.field);
                   if (index < 0) return nullptr;
                   return std::string(reference.names[static_cast<size_t>(index)]);
                 },
                 [](const JsonReference& reference) { return reference.get(); },
                 []<typename T>(std::vector<T>* list) -> nlohmann::json { return *list; },
                 []<typename T>(std::optional<T>* field) -> nlohmann::json {
                   if (!*field) return nullptr;
                   return write_json(**field);
                 },
                 []<typename T>(T* field) -> nlohmann::json { return write_json(*field); }},
      value);
}

std::string to_text(const FieldValue& value) {
  const nlohmann::json json = to_json(value);
  if (json.is_null()) return "-";
  if (json.is_number_float()) return fmt::format("{}", json.get<double>());
  if (json.is_string()) {
    const auto& text = json.get_ref<const std::string&>();
    return text.empty() ? "-" : text;
  }
  if (json.is_array()) {
    if (json.empty()) return "-";
    if (json[0].is_string())
      return fmt::format("{}", fmt::join(json.get<std::vector<std::string>>(), " "));
    return fmt::format("{}", fmt::join(json.get<std::vector<double>>(), ","));
  }
  return json.dump();
}

void clear_list(const FieldValue& value) {
  if (const auto* texts = std::get_if<std::vector<std::string>*>(&value)) (*texts)->clear();
  if (const auto* numbers = std::get_if<std::vector<int64_t>*>(&value)) (*numbers)->clear();
  if (const auto* numbers = std::get_if<std::vector<double>*>(&value)) (*numbers)->clear();
}

bool is_bool(const FieldValue& value) {
  return std::holds_alternative<bool*>(value);
}

bool is_number(const FieldValue& value) {
  return std::holds_alternative<int64_t*>(value) || std::holds_alternative<double*>(value) ||
         std::holds_alternative<std::optional<int64_t>*>(value) ||
         std::holds_alternative<std::optional<double>*>(value);
}

bool is_list(const FieldValue& value) {
  return std::holds_alternative<std::vector<std::string>*>(value) ||
         std::holds_alternative<std::vector<int64_t>*>(value) ||
         std::holds_alternative<std::vector<double>*>(value);
}

std::string type_hint(const FieldValue& value) {
  return std::visit(Overloaded{[](const EnumReference& reference) -> std::string {
                                 return fmt::format("{}", fmt::join(reference.names, "|"));
                               },
                               [](const JsonReference&) -> std::string { return "JSON"; },
                               [](bool*) -> std::string { return ""; },
                               [](std::vector<std::string>*) -> std::string { return "TEXT ..."; },
                               [](std::vector<int64_t>*) -> std::string { return "N,..."; },
                               [](std::vector<double>*) -> std::string { return "X,..."; },
                               []<typename T>(T*) -> std::string {
                                 using Type = typename Unwrapped<T>::type;
                                 if constexpr (std::is_same_v<Type, bool>) return "true|false";
                                 if constexpr (std::is_same_v<Type, int64_t>) return "N";
                                 if constexpr (std::is_same_v<Type, double>) return "X";
                                 if constexpr (std::is_same_v<Type, at::ScalarType>) {
                                   return fmt::format("{}", fmt::join(kDtypeNames, "|"));
                                 }
                                 return "TEXT";
                               }},
                    value);
}

}  // namespace megatron
