/*
 * Loads the two copies of the library that it is given, each to itself, and runs a server in both at once:
 * prints their URLs and "ready", serves until its input ends, then stops one after the other.
 */
#include <ahoy.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

struct copy {
    ahoy_status (*start)(const ahoy_server_options *, ahoy_server *);
    ahoy_status (*address)(ahoy_server, size_t, char *, size_t);
    ahoy_status (*stop)(ahoy_server, int32_t);
    ahoy_status (*wait)(ahoy_server);
    void (*free)(ahoy_server);
    ahoy_server server;
};

/* ISO C has no conversion from an object's pointer to a function's; POSIX promises that the bytes will do. */
static int find(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static int load(struct copy *copy, const char *path)
{
    ahoy_server_options options = { .size = sizeof options, .listen = "tcp://127.0.0.1:0" };
    char url[128];
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL || !find(library, "ahoy_server_start", &copy->start)
            || !find(library, "ahoy_server_address", &copy->address)
            || !find(library, "ahoy_server_stop", &copy->stop) || !find(library, "ahoy_server_wait", &copy->wait)
            || !find(library, "ahoy_server_free", &copy->free)) {
        fprintf(stderr, "%s\n", dlerror());
        return 0;
    }
    if (copy->start(&options, &copy->server) || copy->address(copy->server, 0, url, sizeof url)) return 0;
    printf("%s\n", url);
    return 1;
}

int main(int argc, char **argv)
{
    struct copy copies[2];
    int i;

    if (argc != 3 || !load(&copies[0], argv[1]) || !load(&copies[1], argv[2])) return 1;
    if (copies[0].start == copies[1].start) {
        fprintf(stderr, "both are the same copy\n");
        return 1;
    }
    printf("ready\n");
    fflush(stdout);
    while (getchar() != EOF) {}

    for (i = 0; i < 2; i++) {
        if (copies[i].stop(copies[i].server, AHOY_DRAIN_DEFAULT) || copies[i].wait(copies[i].server)) return 1;
        copies[i].free(copies[i].server);
    }
    return 0;
}
