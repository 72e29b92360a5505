# Varnish: malloc storage, stock logic; the default request coalescing and streaming are what we want.
vcl 4.1;
backend origin {
    .host = "@{origin_address}";
    .port = "@{origin_port}";
    .first_byte_timeout = 60s;
    .between_bytes_timeout = 60s;
}
sub vcl_recv {
    return (hash);
}
sub vcl_backend_response {
    set beresp.do_stream = true;
}
