"""Command line: each command parses, calls one public function, writes."""
