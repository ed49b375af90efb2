/*
 * "systemd:" listens on the sockets that systemd passes, all of them or those of a name, and tells it when the server
 * is ready and when it stops. The test is systemd: it starts this program again with the sockets and the environment.
 */
#include "dgram.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_FD = 3, SOCKETS = 3 };

/* ---- What systemd started -------------------------------------------------------------------- */

static void refused(const char *listen, ahoy_status status) {
    ahoy_server_options options = OPTIONS(.listen = listen);
    ahoy_server server = { 77 };
    ahoy_status actual = ahoy_server_start(&options, &server);
    if (actual != status) fprintf(stderr, "%s\n", listen);
    CHECK_STATUS(actual, status);
    CHECK_EQ(server.id, 77);
    CHECK(strlen(ahoy_last_error()) > 0);
}

/* The sockets "web", "dns" and "web" again; serves until its standard input ends. */
static int activated(void) {
    tally seen = TALLY_INIT;
    refused("systemd:mail", AHOY_ERR_NOT_FOUND);
    ahoy_server server = start(OPTIONS(.listen = "systemd:dns,systemd:web", .workers = 1, .user = &seen,
                                       .on_message = tally_echo));
    char url[128], byte;
    for (size_t i = 0; i < SOCKETS; i++) {
        CHECK_OK(ahoy_server_address(server, i, url, sizeof url));
        printf("%s\n", url);
    }
    fflush(stdout);
    CHECK_EQ(read(STDIN_FILENO, &byte, 1), 0);
    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    ahoy_server_free(server);

    /* Listening was on copies: there may be another server; and no child of ours inherits the sockets. */
    for (int fd = FIRST_FD; fd < FIRST_FD + SOCKETS; fd++) CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    server = start(OPTIONS(.listen = "systemd:", .workers = 1));
    CHECK_STATUS(ahoy_server_address(server, SOCKETS, url, sizeof url), AHOY_ERR_INVALID);
    ahoy_server_free(server);
    CHECK_TEXT(getenv("LISTEN_FDS"), "3"); /* the environment is the program's */
    return 0;
}

/* What it passed is not for this process, or not there. */
static int misled(void) {
    refused("systemd:", AHOY_ERR_NOT_FOUND);
    refused("systemd:web", AHOY_ERR_NOT_FOUND);
    return 0;
}

/* ---- systemd --------------------------------------------------------------------------------- */

typedef struct service {
    pid_t process;
    int input;
    FILE *output;
} service;

/* NULL: a variable that is not set. `pid` "self": the child's own. */
typedef struct passed {
    const char *pid, *fds, *names, *notify;
} passed;

static void set(const char *name, const char *value) {
    if (value) CHECK(!setenv(name, value, 1));
    else CHECK(!unsetenv(name));
}

static const char *program; /* this one */

static service run(const char *part, const int *sockets, passed passed) {
    int input[2], output[2];
    CHECK(!pipe2(input, O_CLOEXEC) && !pipe2(output, O_CLOEXEC));
    fflush(NULL);
    pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
        char pid[16];
        int high[SOCKETS]; /* out of the way first: a socket may have one of the numbers that are to be its */
        snprintf(pid, sizeof pid, "%d", (int)getpid());
        dup2(input[0], STDIN_FILENO), dup2(output[1], STDOUT_FILENO);
        for (int i = 0; i < SOCKETS; i++) high[i] = fcntl(sockets[i], F_DUPFD_CLOEXEC, 50);
        for (int i = 0; i < SOCKETS; i++) dup2(high[i], FIRST_FD + i);
        set("LISTEN_PID", passed.pid && !strcmp(passed.pid, "self") ? pid : passed.pid);
        set("LISTEN_FDS", passed.fds), set("LISTEN_FDNAMES", passed.names), set("NOTIFY_SOCKET", passed.notify);
        execl(program, "systemd", part, (char *)NULL);
        _exit(127);
    }
    close(input[0]), close(output[1]);
    return (service){ process, input[1], fdopen(output[0], "r") };
}

static void end(service *service) {
    int status;
    close(service->input);
    CHECK(waitpid(service->process, &status, 0) == service->process);
    CHECK_EQ(status, 0);
    fclose(service->output);
}

static int listening_tcp(char *url, size_t capacity) {
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(!bind(fd, (struct sockaddr *)&name, len) && !listen(fd, 10));
    CHECK(!getsockname(fd, (struct sockaddr *)&name, &len));
    snprintf(url, capacity, "tcp://127.0.0.1:%d", ntohs(name.sin_port));
    return fd;
}

static void expect_state(int notified, const char *state) {
    char text[64] = "";
    size_t len = dgram_recv(notified, text, sizeof text - 1);
    if (len && text[len - 1] == '\n') text[len - 1] = '\0';
    CHECK_TEXT(text, state);
}

static void activates(const char *notify_url) {
    char urls[SOCKETS][64], line[128], ignored[128], echo[4];
    int sockets[SOCKETS] = { listening_tcp(urls[0], 64), dgram_bind("udp://127.0.0.1:0", urls[1], 64),
                             listening_tcp(urls[2], 64) };
    int notified = dgram_bind(notify_url, ignored, sizeof ignored);
    int early = dial_url(urls[0]); /* waits in systemd's backlog until there is somebody to serve it */
    send_all(early, "ahoy", 4);
    service service = run("activated", sockets, (passed){ "self", "3", "web:dns:web", strchr(notify_url, ':') + 1 });
    expect_state(notified, "READY=1");
    /* In the order of the options, then of the descriptors. */
    const char *const expected[] = { urls[1], urls[0], urls[2] };
    for (int i = 0; i < SOCKETS; i++) {
        CHECK(fgets(line, sizeof line, service.output) != NULL);
        line[strcspn(line, "\n")] = '\0';
        CHECK_TEXT(line, expected[i]);
    }
    recv_exact(early, echo, 4);
    int late = dial_url(urls[2]), gram = dgram_dial_url(urls[1], NULL);
    send_all(late, "ahoy", 4);
    recv_exact(late, echo, 4);
    dgram_send(gram, "ahoy", 4);
    dgram_expect(gram, "ahoy", 4);
    close(early), close(late), close(gram);
    close(service.input);
    service.input = -1;
    expect_state(notified, "STOPPING=1");
    expect_state(notified, "READY=1"); /* the second server of `activated` */
    expect_state(notified, "STOPPING=1");
    end(&service);

    /* The sockets are systemd's and outlive the service. */
    early = dial_url(urls[0]);
    close(early);
    for (int i = 0; i < SOCKETS; i++) close(sockets[i]);
    close(notified);
}

static void misleads(passed passed) {
    char url[64];
    int socket = listening_tcp(url, sizeof url);
    service service = run("misled", (int[SOCKETS]){ socket, socket, socket }, passed);
    end(&service);
    close(socket);
}

int main(int argc, char **argv) {
    program = argv[0];
    if (argc > 1) return strcmp(argv[1], "activated") == 0 ? activated() : misled();
    char notify[96];
    snprintf(notify, sizeof notify, "unixgram:%s/notify", make_folder());
    activates(notify);
    activates(dgram_name(0));
    remove_folder();

    char parent[16];
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    misleads((passed){ 0 });
    misleads((passed){ .pid = parent, .fds = "3", .names = "web:web:web" });
    misleads((passed){ .pid = "nonsense", .fds = "3", .names = "web:web:web" });
    misleads((passed){ .pid = "self", .names = "web:web:web" });
    const char *const counts[] = { "0", "-1", "", "x", "3x", "99999999999999999999" };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        misleads((passed){ .pid = "self", .fds = counts[i], .names = "web:web:web" });
    }

    /* Here nothing was passed; and who does not ask to be told is not. */
    unsetenv("LISTEN_PID");
    CHECK_EQ(misled(), 0);
    return 0;
}
