# For people who have Docker. It was written and read where no Docker runs: it has not been built.
# Inside a container the address is not loopback, so --auth none is refused unless it is meant. To try it:
#   docker run -p 127.0.0.1:8080:8080 -v dibs:/data -e DIBS_INSECURE=true dibs
# In earnest, instead of DIBS_INSECURE: -e DIBS_AUTH=jwt -e DIBS_JWT_SECRET=...
FROM node:24-slim
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev
COPY bin bin
COPY src src
ENV DIBS_HOST=0.0.0.0 DIBS_DATA=/data
RUN mkdir /data && chown node /data
USER node
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["node", "src/cli/main.ts"]
CMD ["serve"]
