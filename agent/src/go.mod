module openrt-agent

go 1.23
