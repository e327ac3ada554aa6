# The torch wheel ships headers of another fmt than the library that this project links, in a folder that
# the compiler searches first. A folder that holds only the library's own headers goes before it. Used by
# the build and by an installed megatron.
include_guard(GLOBAL)
get_target_property(_fmt_include fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
set(_fmt_first ${CMAKE_BINARY_DIR}/fmt-first)
file(MAKE_DIRECTORY ${_fmt_first})
file(CREATE_LINK ${_fmt_include}/fmt ${_fmt_first}/fmt SYMBOLIC)
target_include_directories(megatron_torch SYSTEM BEFORE INTERFACE ${_fmt_first})
