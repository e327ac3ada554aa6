# cmake --install: the program, libmegatron.so, its headers, and a package for find_package(megatron).
# libtorch itself is not installed: the package finds it again, first where it was when this was built.
include(CMakePackageConfigHelpers)
set(MEGATRON_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/megatron)

set_target_properties(megatron PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  INSTALL_RPATH "$ORIGIN;${TORCH_LIBRARY_DIR}")
install(TARGETS megatron EXPORT megatronTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET megatron_program)
  install(TARGETS megatron_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/megatron DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h" PATTERN pch.h EXCLUDE)

get_filename_component(MEGATRON_BUILT_WITH_TORCH ${TORCH_LIBRARY_DIR} DIRECTORY)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/megatronConfig.cmake.in
  ${CMAKE_BINARY_DIR}/megatronConfig.cmake INSTALL_DESTINATION ${MEGATRON_PACKAGE_DIR}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/megatronConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(EXPORT megatronTargets NAMESPACE megatron:: DESTINATION ${MEGATRON_PACKAGE_DIR})
install(FILES ${CMAKE_BINARY_DIR}/megatronConfig.cmake ${CMAKE_BINARY_DIR}/megatronConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/Torch.cmake ${PROJECT_SOURCE_DIR}/cmake/Fmt.cmake
  DESTINATION ${MEGATRON_PACKAGE_DIR})
