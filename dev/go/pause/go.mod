module keelage.dev/dev/go/pause

go 1.24
