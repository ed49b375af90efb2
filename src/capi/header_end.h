#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* AHOY_H */
