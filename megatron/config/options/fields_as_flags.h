// Flags in place of field names in messages of the model checks.
#pragma once

#include <string>
#include <string_view>

namespace megatron {

// Replaces the fields of the option table in `text` by their flags. The model checks write fields
// as `name` or `name=value`: "sequence_parallel" -> "--sequence-parallel", "rope_type=yarn" ->
// "--rope-type yarn", "should_pad_vocab=false" -> "--no-pad-vocab", "yarn_*" -> "--yarn-*". A bare
// word without an underscore is not taken for a field.
std::string fields_as_flags(std::string_view text);

}  // namespace megatron
