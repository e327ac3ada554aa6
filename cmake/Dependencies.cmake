# Every library besides libtorch. Debian names are in scripts/debian-packages.txt; why each is used is
# in docs/dependencies.md.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
include(Fmt)
find_package(nlohmann_json REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(ONIGURUMA REQUIRED IMPORTED_TARGET oniguruma)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
find_path(SENTENCEPIECE_INCLUDE_DIR sentencepiece_processor.h REQUIRED)
find_library(SENTENCEPIECE_LIBRARY sentencepiece REQUIRED)  # without its library for training
find_path(GLOO_INCLUDE_DIR gloo/algorithm.h REQUIRED)  # headers only: libtorch_cpu.so holds the code

add_library(megatron_dependencies INTERFACE)
target_link_libraries(megatron_dependencies INTERFACE
  megatron::torch fmt::fmt nlohmann_json::nlohmann_json yaml-cpp Threads::Threads)
