// What a tp_comm_overlap_cfg gives, from its file or its map.
#pragma once

#include "megatron/config/model/tp_comm_overlap.h"

namespace megatron {

// By name, such as qkv_fprop. Throws Error for a file that cannot be read or is no such mapping, and
// for an unknown name in it.
std::map<std::string, TpOverlapEntry> tp_overlap_entries(const TpCommOverlapConfig& config);

}  // namespace megatron
