// JSON lines as Python's json module reads them.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace megatron {

// Parses one line of a JSON-lines file. Like Python's json module it also accepts NaN, Infinity,
// -Infinity and numbers beyond the range of double; all numbers of a line with such a value are
// returned as 0. Throws Error for any other text; `place` names line and file in it.
nlohmann::json parse_json_line(std::string_view line, const std::string& place);

// Whether parse_json_line would return an object.
bool is_json_object(std::string_view line);

}  // namespace megatron
