# SPDX-License-Identifier: LGPL-2.1-or-later
include(CMakePackageConfigHelpers)

install(FILES include/czone.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev)
if(NOT CZONE_STATIC)
	install(TARGETS czone EXPORT czoneTargets
		LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT lib NAMELINK_COMPONENT dev
		INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endif()
install(TARGETS czone_static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
install(FILES COPYING DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT lib)
install(DIRECTORY LICENSES DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT lib)

# An installed tree can be moved: all paths are relative to the files that name them.
file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" up ${up})
set(pc_prefix "\${pcfiledir}/${up}")
set(pc_requires "libnl-genl-3.0 libcap")
if(CZONE_HOST)
	string(APPEND pc_requires " libvirt libvirt-qemu jansson libxml-2.0")
endif()
# who links the static library needs these, too
if(CZONE_STATIC)
	set(pc_private "")
else()
	set(pc_private .private)
endif()
configure_file(pkgconfig/czone.pc.in czone.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/czone.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/czone)
if(NOT CZONE_STATIC)
	install(EXPORT czoneTargets NAMESPACE czone:: DESTINATION ${package} COMPONENT dev)
endif()
configure_package_config_file(cmake/czoneConfig.cmake.in czoneConfig.cmake
	INSTALL_DESTINATION ${package} PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(czoneConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/czoneConfig.cmake ${PROJECT_BINARY_DIR}/czoneConfigVersion.cmake
	DESTINATION ${package} COMPONENT dev)
