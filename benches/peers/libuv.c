/*
 * libuv: as its guide's echo server does it: a buffer from malloc for each read, which becomes the buffer of
 * the write, and a request from malloc for each write. Mode framed calls uv_write for each message: it tries
 * write(2) at once, so that each message is a system call.
 *
 * Mode echo-try is the same server written for speed: one read buffer for all connections, and
 * uv_try_write first; a request is made for what the socket did not take only.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <uv.h>

#include "peer.h"

struct write_request {
    uv_write_t request; /* first: libuv hands out a pointer to this one */
    uv_buf_t buffer;
};

/* What a connection of mode framed has sent of a message that is not yet whole; its handle's data. */
struct partial {
    size_t len;
    char bytes[PEER_HEAD_BYTES + PEER_MESSAGE_BYTES_MAX];
};

static char shared[PEER_READ_BYTES];

static void check(int status, const char *what)
{
    if (status < 0)
        peer_die(what, uv_strerror(status));
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes);
    if (!memory)
        peer_die("malloc", strerror(errno));
    return memory;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
    free(handle);
}

static void hang_up(uv_stream_t *stream)
{
    if (!uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, on_closed);
}

static void on_echoed(uv_write_t *request, int status)
{
    if (status < 0)
        hang_up(request->handle);
    free(((struct write_request *)request)->buffer.base);
    free(request);
}

/* Takes over `base`. */
static void echo(uv_stream_t *stream, char *base, size_t len)
{
    struct write_request *write = allocate(sizeof *write);
    write->buffer = uv_buf_init(base, (unsigned)len);
    check(uv_write(&write->request, stream, &write->buffer, 1, on_echoed), "uv_write");
}

static void on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    buffer->base = allocate(suggested);
    buffer->len = suggested;
}

static void on_shared_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    buffer->base = shared;
    buffer->len = sizeof shared;
}

static void on_read_echo(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    if (len > 0) {
        echo(stream, buffer->base, (size_t)len);
        return;
    }
    if (len < 0)
        hang_up(stream);
    free(buffer->base);
}

static void on_read_echo_try(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    if (len < 0) {
        hang_up(stream);
    } else if (len > 0) {
        uv_buf_t whole = uv_buf_init(buffer->base, (unsigned)len);
        int sent = uv_try_write(stream, &whole, 1);
        if (sent < 0 && sent != UV_EAGAIN) {
            hang_up(stream);
        } else if (sent < len) {
            size_t done = sent < 0 ? 0 : (size_t)sent, rest = (size_t)len - done;
            echo(stream, memcpy(allocate(rest), buffer->base + done, rest), rest);
        }
    }
}

/* Sends back each message that is whole; returns how many bytes they were. */
static size_t echo_messages(uv_stream_t *stream, const char *bytes, size_t len)
{
    size_t done = 0;
    while (len - done >= PEER_HEAD_BYTES) {
        size_t message = peer_head(bytes + done);
        if (message > PEER_MESSAGE_BYTES_MAX) {
            hang_up(stream);
            return len;
        }
        if (len - done - PEER_HEAD_BYTES < message)
            break;
        char *answer = allocate(PEER_HEAD_BYTES + message);
        peer_set_head(answer, message);
        memcpy(answer + PEER_HEAD_BYTES, bytes + done + PEER_HEAD_BYTES, message);
        echo(stream, answer, PEER_HEAD_BYTES + message);
        done += PEER_HEAD_BYTES + message;
    }
    return done;
}

static void on_read_framed(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    struct partial *partial = stream->data;
    if (len < 0)
        hang_up(stream);
    for (ssize_t done = 0; done < len;) {
        if (!partial || !partial->len) {
            done += (ssize_t)echo_messages(stream, buffer->base + done, (size_t)(len - done));
            if (done == len)
                break;
        }
        /* Joins what there is with as much as one message can have. */
        if (!partial) {
            stream->data = partial = allocate(sizeof *partial);
            partial->len = 0;
        }
        size_t before = partial->len, more = sizeof partial->bytes - before;
        if (more > (size_t)(len - done))
            more = (size_t)(len - done);
        memcpy(partial->bytes + before, buffer->base + done, more);
        size_t echoed = echo_messages(stream, partial->bytes, before + more);
        if (echoed > before) {
            done += (ssize_t)(echoed - before);
            partial->len = 0;
        } else {
            done += (ssize_t)more;
            partial->len = before + more;
        }
    }
    free(buffer->base);
}

static void on_greeted(uv_write_t *request, int status)
{
    (void)status;
    hang_up(request->handle);
    free(request);
}

static void on_read_greet(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    if (len > 0) {
        uv_buf_t greeting = uv_buf_init(PEER_GREETING, PEER_GREETING_BYTES);
        check(uv_read_stop(stream), "uv_read_stop");
        check(uv_write(allocate(sizeof(uv_write_t)), stream, &greeting, 1, on_greeted), "uv_write");
    } else if (len < 0) {
        hang_up(stream);
    }
    free(buffer->base);
}

static uv_alloc_cb on_alloc = on_buffer;
static uv_read_cb on_read = on_read_echo;

static void on_connection(uv_stream_t *listener, int status)
{
    check(status, "listen");
    uv_tcp_t *client = allocate(sizeof *client);
    check(uv_tcp_init(listener->loop, client), "uv_tcp_init");
    client->data = NULL;
    if (uv_accept(listener, (uv_stream_t *)client) == 0)
        check(uv_read_start((uv_stream_t *)client, on_alloc, on_read), "uv_read_start");
    else
        hang_up((uv_stream_t *)client);
}

int main(int argc, char **argv)
{
    static char version[64];
    snprintf(version, sizeof version, "libuv %s", uv_version_string());
    struct peer peer = peer_arguments(argc, argv, "echo echo-try greet framed ", version);
    if (!strcmp(peer.mode, "greet")) {
        on_read = on_read_greet;
    } else if (!strcmp(peer.mode, "framed")) {
        on_read = on_read_framed;
    } else if (!strcmp(peer.mode, "echo-try")) {
        on_alloc = on_shared_buffer;
        on_read = on_read_echo_try;
    }

    uv_tcp_t listener;
    struct sockaddr_in address;
    int len = sizeof address;
    check(uv_tcp_init(uv_default_loop(), &listener), "uv_tcp_init");
    check(uv_ip4_addr("127.0.0.1", peer.port, &address), "uv_ip4_addr");
    check(uv_tcp_bind(&listener, (struct sockaddr *)&address, 0), "uv_tcp_bind");
    check(uv_tcp_nodelay(&listener, 1), "uv_tcp_nodelay");
    check(uv_listen((uv_stream_t *)&listener, PEER_BACKLOG, on_connection), "uv_listen");
    check(uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &len), "uv_tcp_getsockname");
    peer_listens(ntohs(address.sin_port));
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
