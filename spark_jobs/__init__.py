"""Raw event logs -> checked, versioned feature tables. Pure steps; only `job` reads and writes."""
