-- The index that follows a prefix in an iteration path: 2 of 'a[1].b[2]' and 'a[1].b['.
CREATE OR REPLACE FUNCTION gorax_loop_index(p_path text, p_prefix text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT split_part(substr(p_path, length(p_prefix) + 1), ']', 1)::integer
$function$;
