// JSON lines as Python's json module reads them.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace megatron {

// Parses one line of a JSON-lines file. Accepts what Python's json accepts and the JSON standard or
// a double does not: NaN, Infinity, -Infinity and numbers beyond the range of double. Such values
// come back as 0. `place` names line and file in the Error that any other text throws.
nlohmann::json parse_json_line(std::string_view line, const std::string& place);

// Whether parse_json_line would return an object.
bool is_json_object(std::string_view line);

}  // namespace megatron
