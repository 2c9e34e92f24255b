// A page that shows a store by OpenLayers alone, and tells what it reads and what is on the screen.
import Map from 'ol/Map.js';
import View from 'ol/View.js';
import WebGLTile from 'ol/layer/WebGLTile.js';
import {register} from 'ol/proj/proj4.js';
import GeoZarr from 'ol/source/GeoZarr.js';
import proj4 from 'proj4';

register(proj4);

// Draws `variable` from red (high) to black (low); `points` are in the units of the store.
window.look = async (url, variable, dimensions, low, high, points) => {
  const source = new GeoZarr({url, variable, dimensions, resample: 'nearest', transition: 0});
  await new Promise((done, fail) => {
    source.on('change', () => {
      if (source.getState() === 'ready') done();
      if (source.getState() === 'error') fail(source.error_);
    });
  });
  const [west, south, east, north] = source.getTileGrid().getExtent();
  const share = ['/', ['-', ['band', 1], low], high - low];
  const layer = new WebGLTile({source, style: {color: ['array', share, 0, 0, 1]}});
  const target = document.createElement('div');
  target.style.cssText = 'width:600px;height:600px';
  document.body.replaceChildren(target);
  const view = new View({
    projection: source.getProjection(),
    multiWorld: true, // otherwise a world must fill the map, and its sides are not on it
    center: [(west + east) / 2, (south + north) / 2],
    resolution: Math.max(east - west, north - south) / 600,
  });
  const map = new Map({target, layers: [layer], view, controls: []});
  await new Promise((done) => map.once('rendercomplete', done));
  map.renderSync();
  const seen = document.createElement('canvas');
  const canvas = target.querySelector('canvas');
  [seen.width, seen.height] = [canvas.width, canvas.height];
  const ink = seen.getContext('2d');
  ink.drawImage(canvas, 0, 0);
  const found = points.map((at) => {
    const pixel = map.getPixelFromCoordinate(at);
    const data = layer.getData(pixel);
    return {data: data && data[0], shown: [...ink.getImageData(Math.round(pixel[0]), Math.round(pixel[1]), 1, 1).data]};
  });
  return JSON.stringify({extent: [west, south, east, north], code: source.getProjection().getCode(), found});
};
