# Exists only so that the .pxd files of this directory can be cimported as edgecache.native.<file>.
